"""What a search costs, against accounting by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bract.privacy import Composed, Entry, Gaussian, Ledger
from bract.privacy.accounting.accountant import ORDERS, renyi, spent
from bract.simulations.study import Study, make_study, mechanism_for
from bract.simulations.sweep.cost import MIXED, TRUSTED, UNPROTECTED, WATCHING, cost_of_runs, cost_of_selection
from bract.simulations.sweep.private_selection import make_repetitions, selection_epsilon
from bract.simulations.sweep.request import SweepRun

ROUNDS, CLIENTS = 4, 5


def study_of(noise_multiplier: float, noise: str = "local", unit: str = "record", delta: float = 1e-4) -> Study:
    privacy = {"noise": noise, "unit": unit, "noise_multiplier": noise_multiplier, "epsilon": 1e6, "delta": delta}
    cohort = {"rounds": ROUNDS, "size": CLIENTS}
    plan = {"data": {"clients": CLIENTS}, "privacy": privacy, "cohort": cohort, "aggregation": {"protocol": "sum"}}
    return make_study(plan)


def runs_of(seeds: int, points: int) -> list[SweepRun]:
    return [SweepRun(p * seeds + s + 1, p, s + 1, {}) for p in range(points) for s in range(seeds)]


def spend(study: Study, folder: Path, rounds: int = ROUNDS, clients: tuple[int, ...] = (0, 1)) -> None:
    folder.mkdir(parents=True)
    mechanism = mechanism_for(study)
    with Ledger(folder / "ledger.jsonl", mechanism.budget, study.digest) as ledger:
        for number in range(1, rounds + 1):
            ledger.spend(
                Entry(
                    number,
                    f"{number:032x}",
                    tuple(map(str, clients)),
                    mechanism.server_event,
                    mechanism.round_event,
                )
            )


def test_all_runs_are_composed_with_their_seeds(tmp_path: Path) -> None:
    studies = [study_of(6.0), study_of(9.0)]
    for run in (runs := runs_of(3, 2)):
        spend(studies[run.point], tmp_path / run.folder)
    cost = cost_of_runs(runs, studies, tmp_path)
    each = [(mechanism_for(study).round_event, 3 * ROUNDS) for study in studies]
    one = [(mechanism_for(study).round_event, ROUNDS) for study in studies]
    by_hand, once = spent(tuple(each), 1e-4), spent(tuple(one), 1e-4)
    assert (cost.runs, cost.points, cost.unit, cost.delta, cost.reasons) == (6, 2, "record", 1e-4, {})
    assert cost.epsilon == {"server": pytest.approx(by_hand), "released": pytest.approx(by_hand)}
    assert cost.once == {"server": pytest.approx(once), "released": pytest.approx(once)}
    assert once < by_hand


def test_only_what_was_begun_is_charged_and_cut_off_runs_too(tmp_path: Path) -> None:
    studies = [study_of(6.0)]
    first, second, _never = runs = runs_of(3, 1)
    spend(studies[0], tmp_path / first.folder)
    spend(studies[0], tmp_path / second.folder, rounds=2)
    cost = cost_of_runs(runs, studies, tmp_path)
    assert cost.runs == 2
    assert cost.epsilon["server"] == pytest.approx(spent(((mechanism_for(studies[0]).round_event, 6),), 1e-4))
    assert cost.once["server"] == pytest.approx(spent(((mechanism_for(studies[0]).round_event, 4),), 1e-4))


def test_a_client_is_charged_as_the_one_that_was_in_most_rounds(tmp_path: Path) -> None:
    study = study_of(6.0)
    (tmp_path / "run-001").mkdir()
    mechanism = mechanism_for(study)
    with Ledger(tmp_path / "run-001" / "ledger.jsonl", mechanism.budget, study.digest) as ledger:
        for number, clients in enumerate([(0, 1), (1, 2), (1, 3)], 1):
            ledger.spend(
                Entry(
                    number,
                    str(number),
                    tuple(map(str, clients)),
                    mechanism.server_event,
                    mechanism.round_event,
                )
            )
    cost = cost_of_runs(runs_of(1, 1), [study], tmp_path)
    assert cost.epsilon["released"] == pytest.approx(spent(((mechanism_for(study).round_event, 3),), 1e-4))


def test_a_damaged_ledger_counts_as_all_rounds_that_were_planned(tmp_path: Path) -> None:
    study = study_of(6.0)
    spend(study, tmp_path / "run-001", rounds=1)
    path = tmp_path / "run-001" / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":2'))
    cost = cost_of_runs(runs_of(1, 1), [study], tmp_path)
    assert cost.epsilon["released"] == pytest.approx(spent(((mechanism_for(study).round_event, ROUNDS),), 1e-4))


def test_nothing_begun_costs_nothing(tmp_path: Path) -> None:
    cost = cost_of_runs(runs_of(2, 1), [study_of(6.0)], tmp_path)
    assert (cost.runs, cost.epsilon) == (0, {"server": 0.0, "released": 0.0})


def test_the_least_delta_is_the_search_s(tmp_path: Path) -> None:
    studies = [study_of(6.0, delta=1e-4), study_of(6.0, delta=1e-6)]
    for run in (runs := runs_of(1, 2)):
        spend(studies[run.point], tmp_path / run.folder)
    cost = cost_of_runs(runs, studies, tmp_path)
    assert cost.delta == 1e-6
    assert cost.epsilon["server"] == pytest.approx(
        spent(((mechanism_for(studies[0]).round_event, 2 * ROUNDS),), 1e-6)
    )


def test_a_trusted_server_has_no_figure_and_a_reason(tmp_path: Path) -> None:
    studies = [study_of(6.0, "central"), study_of(6.0, "local")]
    for run in (runs := runs_of(1, 2)):
        spend(studies[run.point], tmp_path / run.folder)
    cost = cost_of_runs(runs, studies, tmp_path)
    assert cost.reasons == {"server": TRUSTED}
    assert cost.epsilon["server"] is None
    assert cost.epsilon["released"] > 0


def test_a_run_that_protects_nothing_leaves_no_figure(tmp_path: Path) -> None:
    studies = [study_of(6.0), study_of(6.0, unit="none")]
    for run in (runs := runs_of(1, 2)):
        spend(studies[run.point], tmp_path / run.folder)
    cost = cost_of_runs(runs, studies, tmp_path)
    assert cost.epsilon == {"server": None, "released": None}
    assert set(cost.reasons.values()) == {UNPROTECTED}


def test_costs_of_different_units_are_not_added_up() -> None:
    other = study_of(6.0)
    other = other.model_copy(update={"privacy": other.privacy.model_copy(update={"unit": "client"})})
    cost = cost_of_selection(make_repetitions("geometric", 4), [study_of(6.0), other])
    assert cost.unit is None
    assert set(cost.reasons.values()) >= {MIXED}
    assert cost.epsilon == {"server": None, "released": None}


def test_private_selection_charges_a_try_as_the_dearest_one() -> None:
    studies, law = [study_of(20.0), study_of(8.0)], make_repetitions("geometric", 4)
    cost = cost_of_selection(law, studies)

    def dearest(order: float) -> float:
        return max(renyi(Composed(mechanism_for(study).round_event, ROUNDS), int(order)) for study in studies)

    assert all(dearest(a) == renyi(Composed(mechanism_for(studies[1]).round_event, ROUNDS), a) for a in ORDERS)
    assert cost.epsilon == {"server": None, "released": pytest.approx(selection_epsilon(law, dearest, 1e-4))}
    assert cost.reasons["server"] == WATCHING
    both = spent(tuple((mechanism_for(study).round_event, ROUNDS) for study in studies), 1e-4)
    assert cost.once["released"] == pytest.approx(both)


def test_private_selection_costs_less_than_all_of_many() -> None:
    studies = [study_of(20.0 + n / 10) for n in range(20)]
    cost = cost_of_selection(make_repetitions("logarithmic", 20), studies)
    assert cost.epsilon["released"] < 0.8 * cost.once["released"]


def test_selection_with_a_bare_candidate_has_no_figure() -> None:
    """Private selection, where a candidate protects nothing."""
    cost = cost_of_selection(make_repetitions("poisson", 4), [study_of(20.0), study_of(20.0, unit="none")])
    assert cost.epsilon["released"] is None
    assert cost.reasons["released"] == UNPROTECTED


def test_a_curve_of_a_gaussian_is_its_closed_form() -> None:
    """So that the curve that selection is given is the one its tests are about."""
    assert renyi(Composed(Gaussian(3.0), 5), 7) == pytest.approx(5 * 7 / (2 * 9))
    assert math.isfinite(renyi(mechanism_for(study_of(6.0)).round_event, ORDERS[-1]))
