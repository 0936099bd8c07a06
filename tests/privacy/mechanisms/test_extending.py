"""A new mechanism takes its own file, one name in the schema and one rule: tried in a copy of the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PRIVACY = Path(__file__).parents[3] / "privacy"

MECHANISM = '''"""Noise of each device on the grid of the sums: local noise for whole clients, on one grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..encoding.quantization import quantize
from ..encoding.vectors import Clipped, Contribution, Release, Sum, Update
from ..noise.gaussian import LEAST_STD, MOST_STD, gaussian
from ..noise.keystream import Keystream
from .base import FINEST, SPREAD, Draw, Grid, Mechanism, Words, fit_ring


class Device(Mechanism):
    """Each device adds Gaussian noise to its own change, after it is rounded to the grid of the sums."""

    @property
    def noised_alone(self) -> bool:
        """True: a device's vector holds all of its noise."""
        return True

    @property
    def in_words(self) -> Words:
        """What a report says of this noise."""
        return Words("device: each device adds noise to its own update, on the grid of the sums")

    @cached_property
    def grid(self) -> Grid:
        """The grid: a range of the clip norm and `SPREAD` deviations, in steps of an eighth of a deviation."""
        plan, clip, z = self.plan, self.clip_norm, self.noise_multiplier
        given, coarsest = plan.aggregation.range, clip * z / 8
        span = clip * (1 + SPREAD * z) if given is None else given * clip
        ring, bound, step = fit_ring(span, coarsest, clip / FINEST, plan.cohort.size, plan.aggregation.bits)
        return Grid(span, coarsest, ring, bound, step, step)

    def sensitivity(self, dimension: int) -> float:
        """How far one unit moves a rounded vector: rounding moves each coordinate by half a step, twice."""
        return self.exact_sensitivity + math.sqrt(dimension) * self.grid.step

    @property
    def can_make_noise(self) -> bool:
        """Whether the Gaussian sampler supports the standard deviation of the noise, in steps."""
        return LEAST_STD <= self.noise_std(1) / self.grid.step <= MOST_STD / 2

    def contribute(
        self, vector: Update | Clipped, round: int, draw: Draw, layers: Sequence[bytes] = ()
    ) -> Contribution:
        """Return the clipped change on the grid, with noise; a coordinate beyond the bound saturates.

        Guarantee: the Gaussian mechanism of `noise_multiplier` on a clipped change.

        Raises:
            ValueError: the change is not clipped.
        """
        del round, layers
        if not isinstance(vector, Clipped):
            raise ValueError("a change that is not clipped")
        grid, count = self.grid, len(vector.vector)
        noise = gaussian(self.noise_std(count) / grid.step, count, draw("noise", 0))
        return Contribution(np.clip(quantize(vector.vector, grid.step) + noise, -grid.bound, grid.bound))

    def release(self, total: Sum, round: int, noise: Keystream, past: object = None) -> tuple[Release, None]:
        """Return the average of the devices' changes, which carry their own noise."""
        del round, noise, past
        return self.averaged(self.decoded(total)), None


mechanism = Device
'''
"""privacy/mechanisms/device.py: the whole file of a mechanism."""

SCHEMA = ('Literal["local", "distributed", "central"]', 'Literal["local", "distributed", "central", "device"]')
"""The one line of privacy/plan/schema.py, before and after."""

RULE = """def _device_noise_is_for_clients(s: Sections) -> str | None:
    p = s["privacy"]
    return "privacy.noise = device is for unit = client" if (p.noise, p.unit) == ("device", "record") else None


RULES = (
    _device_noise_is_for_clients,
"""
"""The one rule of privacy/plan/rules.py, in front of the others."""

RUN = """
import math
import numpy as np
from bract.privacy import Clipped, Keystream, PlanError, Sum, accept_plan

text = '''
[data]
clients = 40
[model]
parameters = 100
[cohort]
size = 4
rounds = 5
[privacy]
unit = "{unit}"
noise = "device"
sampling_rate = 1.0
epsilon = 30.0
delta = 1e-3
'''
try:
    accept_plan(text.format(unit="record"))
except PlanError as fault:
    assert "device is for unit = client" in str(fault), fault
else:
    raise SystemExit("the rule is not asked")

mechanism = accept_plan(text.format(unit="client"))
keys = [Keystream(bytes([number]) * 32) for number in range(4)]
change = Clipped(np.full(100, 0.09))
sent = [mechanism.contribute(change, 1, lambda *purpose: key).vector for key in keys]
ring = mechanism.grid.ring
total = Sum(ring.decode(sum(ring.encode(one) for one in sent), 100))
release, _ = mechanism.release(total, 1, keys[0])
deviation = mechanism.noise_std(100) / 2
assert abs(release.vector - 0.09).max() < 6 * deviation  # false alarm: 2e-7
assert abs(release.vector - 0.09).std() > deviation / 3
print(mechanism.cost(), mechanism.plan.privacy.epsilon, mechanism.in_words.place)
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package with the three changes."""
    privacy = shutil.copytree(PRIVACY, tmp_path / "bract" / "privacy", ignore=shutil.ignore_patterns("__pycache__"))
    (privacy.parent / "__init__.py").touch()  # without it, an installed bract would be found first
    (privacy / "mechanisms" / "device.py").write_text(MECHANISM)
    for name, (before, after) in {"schema.py": SCHEMA, "rules.py": ("RULES = (\n", RULE)}.items():
        text = (privacy / "plan" / name).read_text()
        assert text.count(before) == 1
        (privacy / "plan" / name).write_text(text.replace(before, after))
    return tmp_path


def test_a_new_mechanism_takes_three_places(copied: Path) -> None:
    """From a plan's text to the release and the cost; reports find its words."""
    environment = {"PYTHONPATH": str(copied), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", f"import bract.privacy\nassert '{copied}' in bract.privacy.__file__\n{RUN}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    cost, budget, *words = done.stdout.split()
    assert 0.5 * float(budget) < float(cost) <= float(budget)
    assert words[0] == "device:"
