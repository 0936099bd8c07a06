"""What a device charges itself for a round: what the fewest noise that may be left in its sum protects it by."""

from __future__ import annotations

from pathlib import Path

import pytest

from bract.client.disk.device_ledger import LEDGER_FILE, OwnerLedger
from bract.client.terms import Terms
from bract.privacy import Composed, Event, Plan, PoissonSampled, make_plan, mechanism_of
from bract.privacy.accounting.accountant import epsilon
from bract.privacy.accounting.events import Skellam
from bract.privacy.ledger.statement import read_ledger
from bract.privacy.mechanisms.distributed import Distributed

SIZE, DROPOUTS = 20, 0.3
CELLS = [(unit, noise) for unit in ("record", "client") for noise in ("local", "distributed", "central")]


def make(unit: str, noise: str, shares: str = "floor") -> Plan:
    secure = {"protocol": "secagg", "dropouts": DROPOUTS, "colluders": 0.2}
    tables = {
        "data": {"clients": 2 * SIZE},
        "model": {"parameters": 64},
        "cohort": {"rounds": 6, "size": SIZE},
        "privacy": {
            "unit": unit,
            "noise": noise,
            "epsilon": 4.0,
            "delta": 1e-3,
            "shares": shares,
            "sampling_rate": 0.5 if unit == "record" else 1.0,
        },
        "aggregation": secure if noise == "distributed" else {},
    }
    return make_plan(tables, Plan)


def charged(plan: Plan, folder: Path) -> Event:
    """The event that a device writes to its ledger for one round."""
    spending = OwnerLedger(folder, Terms(clear_updates=True, trusted_server=True))
    spending.charge(plan, 1, 1)
    [entry] = read_ledger(folder / LEDGER_FILE).entries
    return entry.server


def shared(event: Event) -> Skellam:
    """The noise of the one sum of a round."""
    while isinstance(event, Composed | PoissonSampled):
        event = event.event
    assert isinstance(event, Skellam)
    return event


@pytest.mark.parametrize("shares", ["floor", "xnoise"])
@pytest.mark.parametrize("unit", ["record", "client"])
def test_a_device_charges_the_noise_of_the_fewest_survivors(unit: str, shares: str, tmp_path: Path) -> None:
    """From first principles: a fixed share each, of those who neither dropped out nor tell the server theirs."""
    plan = make(unit, "distributed", shares)
    mechanism = mechanism_of(plan)
    assert isinstance(mechanism, Distributed)
    fewest = plan.least_survivors
    assert fewest < SIZE
    honest = fewest - plan.colluders
    share = mechanism.share_variance + (sum(mechanism.layers) if shares == "xnoise" else 0.0)
    noise = shared(charged(plan, tmp_path))
    assert noise.variance == pytest.approx(honest * share, rel=1e-9)
    moved = mechanism.sensitivity(64) / mechanism.grid.step
    assert noise.noise_multiplier == pytest.approx((honest * share) ** 0.5 / moved, rel=1e-9)


@pytest.mark.parametrize(("unit", "noise"), CELLS)
def test_the_rounds_of_a_device_cost_the_planned_epsilon(unit: str, noise: str, tmp_path: Path) -> None:
    """The rounds that a plan allows it cost the epsilon that the plan claims."""
    plan = make(unit, noise)
    cost = mechanism_of(plan).cost()
    assert plan.participations == 3
    event = charged(plan, tmp_path)
    assert epsilon(Composed(event, plan.participations), plan.privacy.delta) == pytest.approx(cost, rel=1e-9)
    assert 0.9 * plan.privacy.epsilon < cost <= plan.privacy.epsilon
