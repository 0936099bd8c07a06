"""A network that cannot be clipped is a fault of the plan, for the device and for the command line."""

from __future__ import annotations

from bract.client.app import _code
from bract.client.clipping.errors import ClippingError
from bract.privacy import PlanError
from bract.privacy.server_view import Code

FAULT = ClippingError("the layer 1 (BatchNorm1d) mixes the records of a batch", "use nn.GroupNorm or nn.LayerNorm")


def test_a_device_answers_it_with_the_code_of_a_plan() -> None:
    assert _code(FAULT) is Code.PLAN


def test_the_command_line_prints_two_lines_and_a_plans_exit_code() -> None:
    what, hint = str(FAULT).split("\n")
    assert what == "error: the layer 1 (BatchNorm1d) mixes the records of a batch"
    assert hint == "hint: use nn.GroupNorm or nn.LayerNorm"
    assert FAULT.exit_code == PlanError.exit_code == 2
