"""The grid of a sweep, and the request that is kept in its folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from bract.privacy import PlanError, StateError, SystemEntropy, read_tables
from bract.simulations.seeded import SeededEntropy
from bract.simulations.sweep.axes import Axis, describe, points, put, read_axes, read_axis, split
from bract.simulations.sweep.request import (
    Selection,
    SweepRequest,
    draw_tries,
    from_toml,
    make_runs,
    make_studies,
    read_request,
    same,
    seeded,
    to_toml,
    write_request,
)

AXES = (Axis("privacy.epsilon", (1, 2.5)), Axis("data.split", ("iid", "natural")))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("privacy.epsilon=1,2.5, 4", (1, 2.5, 4)),
        ("data.split=iid,dirichlet:0.3", ("iid", "dirichlet:0.3")),
        ("data.shape=[1, 28, 28],[784]", ([1, 28, 28], [784])),
        ('data.path="a,b",c', ("a,b", "c")),
        ("data.path='x=1,2'", ("x=1,2",)),
        ("privacy.delta = 1e-5,1e-6", (1e-5, 1e-6)),
    ],
)
def test_values_are_read_as_toml_or_else_as_text(text: str, values: tuple[object, ...]) -> None:
    axis = read_axis(text)
    assert axis.values == values
    assert [type(value) for value in axis.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "privacy.epsilon",
        "privacy.epsilon=",
        "privacy.epsilon=1,,2",
        "epsilon=1",
        ".epsilon=1",
        "privacy.=1",
        "privacy.epsilon=1,2,1",
        "simulation.seed=1,2",
    ],
)
def test_a_malformed_axis_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="over"):
        read_axis(text)


def test_a_key_is_named_once() -> None:
    with pytest.raises(PlanError, match=r"privacy\.epsilon twice"):
        read_axes(["privacy.epsilon=1", "data.split=iid", "privacy.epsilon=2"])


@given(st.lists(st.text(alphabet="ab1[]{}\"' ", max_size=6), max_size=5))
def test_splitting_loses_nothing(pieces: list[str]) -> None:
    text = ",".join(pieces)
    assert ",".join(split(text)) == text


def test_the_first_axis_varies_slowest_and_seeds_fastest() -> None:
    assert [tuple(point.values()) for point in points(AXES)] == [
        (1, "iid"),
        (1, "natural"),
        (2.5, "iid"),
        (2.5, "natural"),
    ]
    runs = make_runs(SweepRequest("p", {}, AXES, seeds=3))
    assert [run.number for run in runs] == list(range(1, 13))
    assert [run.seed for run in runs] == [1, 2, 3] * 4
    assert [run.point for run in runs] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert runs[4].values == {"privacy.epsilon": 1, "data.split": "natural"}
    assert runs[-1].folder == "run-012"


def test_without_an_axis_there_is_one_point() -> None:
    assert [run.values for run in make_runs(SweepRequest("p", {}, (), seeds=2))] == [{}, {}]
    assert describe({}) == "the plan as it is"


def test_values_are_put_into_the_tables_and_nothing_else_changes() -> None:
    tables = {"privacy": {"epsilon": 8.0, "delta": 1e-4}}
    changed = put(tables, {"privacy.epsilon": 1, "cohort.size": 3})
    assert changed == {"privacy": {"epsilon": 1, "delta": 1e-4}, "cohort": {"size": 3}}
    assert tables == {"privacy": {"epsilon": 8.0, "delta": 1e-4}}


def test_a_seed_changes_nothing_but_the_seed(tiny_plan: Path) -> None:
    [study] = make_studies(SweepRequest("p", read_tables(tiny_plan), ()))
    other = seeded(study, 12)
    assert (other.simulation.seed, study.simulation.seed) == (12, 7)
    assert other.digest == study.digest


def test_all_faults_of_all_points_are_told_with_where_they_are(tiny_plan: Path) -> None:
    axes = read_axes(["privacy.epsilon=0,8", "cohort.size=5,9"])
    with pytest.raises(PlanError) as fault:
        make_studies(SweepRequest("tiny", read_tables(tiny_plan), axes))
    assert fault.value.what.startswith("3 of 4 points of the grid refused: ")
    assert "must be greater than 0, not 0 (at privacy.epsilon=0, cohort.size=5)" in fault.value.what
    assert "only 5 (at privacy.epsilon=8, cohort.size=9)" in fault.value.what
    assert "2 faults" in fault.value.what


def test_a_fault_of_every_point_is_told_once(tiny_plan: Path) -> None:
    axes = read_axes(["cohort.sise=1,2", "privacy.epsilon=1,2"])
    with pytest.raises(PlanError) as fault:
        make_studies(SweepRequest("tiny", read_tables(tiny_plan), axes))
    assert fault.value.what.startswith("every point of the grid refused: ")
    assert fault.value.what.count("cohort.size") == 1
    with pytest.raises(PlanError, match=r"^error: tiny has a fault"):
        make_studies(SweepRequest("tiny", {"cohort": {"sise": 3}}, ()))


def test_a_request_reads_back_equal(tmp_path: Path) -> None:
    tables = {"data": {"path": 'odd "\\\x7f\n', "shape": [1, 2]}, "privacy": {"delta": 1e-5, "epsilon": 1e300}}
    plain = SweepRequest("näme", tables, (*AXES, Axis("data.shape", ([1, 2], [2, 1]))), seeds=3)
    private = replace(plain, seeds=1, selection=Selection("geometric", 4.0, ((0, 5), (7, 2**53 - 1))))
    for request in (plain, private):
        assert from_toml(to_toml(request)) == request
        write_request(tmp_path, request)
        assert read_request(tmp_path) == request


@pytest.mark.parametrize(
    "text", ["", "[sweep]\n", "[sweep]\nname = 1", 'x"', '[sweep]\nname="a"\nseeds=1\n[select]\n']
)
def test_a_damaged_request_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(StateError, match=r"sweep\.toml is damaged"):
        read_request(tmp_path)


def test_a_draw_of_a_point_that_there_is_not_is_damage(tmp_path: Path) -> None:
    write_request(tmp_path, SweepRequest("p", {}, AXES, selection=Selection("geometric", 4.0, ((4, 1),))))
    with pytest.raises(StateError):
        read_request(tmp_path)


def test_what_was_drawn_does_not_make_another_request() -> None:
    plain = SweepRequest("p", {}, AXES)
    asked = replace(plain, selection=Selection("geometric", 4.0))
    drawn = draw_tries(asked, SystemEntropy())
    assert drawn != asked
    assert same(drawn, asked)
    assert not same(drawn, plain)
    assert not same(drawn, replace(plain, selection=Selection("geometric", 5.0)))
    assert draw_tries(plain, SystemEntropy()) == plain


def test_tries_are_drawn_evenly_and_never_with_the_same_seed() -> None:
    """Chi-square over some 8,000 tries of fixed keys; it goes off by chance once in a million keys."""
    asked = SweepRequest("p", {}, AXES, selection=Selection("geometric", 4.0))
    pairs = [pair for key in range(2000) for pair in draw_tries(asked, SeededEntropy(key)).selection.drawn]
    seen = Counter(point for point, _ in pairs)
    assert set(seen) == {0, 1, 2, 3}
    assert chisquare(list(seen.values())).pvalue > 1e-6
    assert len({seed for _, seed in pairs}) == len(pairs)
    assert 7000 < len(pairs) < 9000
