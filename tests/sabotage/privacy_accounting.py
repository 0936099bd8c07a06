"""Break what a plan costs, and the ledger that is charged for it."""

from __future__ import annotations

import dataclasses
from typing import Any

from .registry import turns_red

CHARGE = "test_guarantees.py::test_nothing_is_released_before_its_charge_is_on_disk"


@turns_red("privacy/accounting/test_pld.py::test_no_mass_of_a_composition_is_below_the_exact_one")
def leave_out_what_a_fourier_transform_errs_by() -> None:
    import bract.privacy.accounting.pld as pld

    pld.BLUR = 0.0


@turns_red("privacy/accounting/test_pld.py::test_a_loss_without_bound_is_charged_for_every_step")
def forget_losses_without_bound() -> None:
    import bract.privacy.accounting.pld as pld

    composed = pld.composed

    def bounded(steps: Any, delta: float) -> Any:
        return composed([(dataclasses.replace(part, infinite=0.0), count) for part, count in steps], delta)

    pld.composed = bounded


@turns_red("privacy/ledger/test_ledger.py::test_refuses_what_passes_the_budget_by_a_hundred_millionth")
def let_a_budget_be_passed_by_a_thousandth() -> None:
    import bract.privacy.ledger.ledger as ledger

    ledger.SLACK = 1e-3


@turns_red(CHARGE)
def do_not_charge_the_ledger() -> None:
    from bract.privacy import Ledger

    Ledger.spend = lambda self, entry: None


@turns_red(CHARGE)
def charge_after_the_release() -> None:
    from bract.privacy import Ledger

    spend, late = Ledger.spend, []

    def spend_late(self: Any, entry: Any) -> None:
        if late:
            spend(self, late.pop())
        late.append(entry)

    Ledger.spend = spend_late
