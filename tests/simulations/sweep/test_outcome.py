"""What a sweep came to: points, front, tables that read back, records on disk, and what a person reads."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import StateError
from bract.simulations.sweep.axes import Axis
from bract.simulations.sweep.cost import Cost, cost_of_runs
from bract.simulations.sweep.outcome import SweepOutcome, make_points, to_json, winner
from bract.simulations.sweep.progress import SweepProgress, summary
from bract.simulations.sweep.request import Selection, SweepRequest
from bract.simulations.sweep.results import Record, read_record, record_of, write_record
from bract.simulations.sweep.run import RunsFailed, check_failures
from bract.simulations.sweep.tables import write_tables

COST = Cost(
    4, 2, "record", 1e-4, {"server": None, "released": 9.5}, {"server": None, "released": 5.25}, {"server": "x"}
)


def record_at(
    run: int, accuracy: float | None, epsilon: float | None = 1.0, seed: int = 1, **values: object
) -> Record:
    keys = {"privacy.epsilon": epsilon, **values}
    figures = {"server": None, "released": epsilon}
    quality = {} if accuracy is None else {"accuracy": accuracy, "f1": accuracy / 2}
    return Record(run, seed, keys, f"out/run-{run:03d}", 0.5, quality, figures, 1e-4, rounds=3, seconds=1.5)


FAILED = Record(9, 1, {"privacy.epsilon": 4}, "out/run-009", error="no data, none", hint="find some")


def outcome_of(*records: Record, selection: Selection | None = None) -> SweepOutcome:
    request = SweepRequest("tiny", {}, (Axis("privacy.epsilon", (1, 2)),), 2, selection)
    return SweepOutcome(request, Path("out"), records, make_points(records), COST, 12.0)


def test_points_are_means_over_the_seeds_of_what_was_measured() -> None:
    records = [record_at(1, 0.5, seed=1), record_at(2, 0.75, seed=2), record_at(3, None, 2.0), FAILED]
    [point] = make_points(records)
    assert (point.score.value, point.low, point.high) == (0.625, 0.5, 0.75)
    assert point.figures == {"accuracy": 0.625, "f1": 0.3125}
    assert (len(point.runs), point.epsilon("released"), point.epsilon("server")) == (2, 1.0, None)


def test_the_best_is_the_cheapest_of_the_most_accurate() -> None:
    outcome = outcome_of(
        record_at(1, 0.5, 8.0), record_at(2, 0.9, 4.0), record_at(3, 0.9, 2.0), record_at(4, 0.9, 3.0)
    )
    assert outcome.best is not None
    assert outcome.best.epsilon("released") == 2.0
    assert outcome_of().best is None


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12, unique=True))
def test_no_point_beats_the_front_and_the_front_beats_all_others(cloud: list[tuple[int, int]]) -> None:
    outcome = outcome_of(*(record_at(n, acc / 9, float(eps), x=n) for n, (eps, acc) in enumerate(cloud)))
    front = [(point.epsilon("released"), point.score.value) for point in outcome.front]
    assert front == sorted(front)
    for point in outcome.points:
        eps, acc = point.epsilon("released"), point.score.value
        beaten = any(e <= eps and a >= acc and (e, a) != (eps, acc) for e, a in front)
        assert beaten != ((eps, acc) in front)


def test_points_without_an_epsilon_are_not_on_the_front() -> None:
    outcome = outcome_of(record_at(1, 0.5, 1.0), record_at(2, 0.9, None))
    assert [point.score.value for point in outcome.front] == [0.5]
    assert outcome.view == "released"
    finite = {"server": 2.0, "released": 1.0}
    assert outcome_of(replace(record_at(1, 0.5), epsilon=finite)).view == "server"


def test_the_winner_is_the_first_of_the_most_accurate() -> None:
    """Failures come last."""
    assert winner([FAILED, record_at(1, None), record_at(2, 0.5), record_at(3, 0.5)]) == record_at(2, 0.5)
    assert winner([FAILED]) is None


def rebuilding_at(run: int, error: float, epsilon: float, seed: int = 1) -> Record:
    return replace(record_at(run, None, epsilon, seed), figures={"mse": error, "psnr": 1 / error})


def test_where_smaller_is_better_the_smaller_wins() -> None:
    errors = (0.5, 1.0), (0.25, 2.0), (0.75, 4.0), (0.125, 8.0)
    records = [rebuilding_at(n, *pair) for n, pair in enumerate(errors, 1)]
    outcome = outcome_of(*records, record_at(5, 0.9, 1.0))
    assert [point.epsilon("released") for point in outcome.front] == [1.0, 2.0, 8.0]
    assert len(outcome.points) == 4
    assert winner(records) == records[3]
    best = to_json(outcome)["best"]
    assert (best["mse"], best["figures"]["psnr"]) == (0.125, 8.0)
    assert "accuracy" not in best
    assert "best        reconstruction error 0.125 on test records" in summary(outcome)
    with SweepProgress({n: 1 for n in range(5)}, records[:2], shown=False) as progress:
        progress.update({"run": 3, "record": {"error": None, "figures": records[2].figures}})
        assert "best 0.25" in progress.figures


def test_tables_read_back(tmp_path: Path) -> None:
    values = {"data.shape": [1, 2], "data.name": 'a "b", c', "training.learning_rate": 1}
    rows = [record_at(1, 0.5, 2.0, **values), record_at(2, None, None, seed=2**52, **values)]
    rows.append(replace(FAILED, values={**values, "privacy.epsilon": 4, "training.learning_rate": 0.5}))
    write_tables(tmp_path, ["privacy.epsilon", *values], rows)
    table = pyarrow.parquet.read_table(tmp_path / "results.parquet").to_pylist()
    with (tmp_path / "results.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [row["folder"] for row in table] == [record.folder for record in rows]
    first, second, third = table
    assert first["data.shape"] == "[1, 2]"
    assert first["data.name"] == 'a "b", c'
    assert [row["training.learning_rate"] for row in table] == [1.0, 1.0, 0.5]
    assert list(first)[4:8] == ["seed", "accuracy", "f1", "loss"]
    assert (first["accuracy"], first["epsilon_released"], first["epsilon_server"]) == (0.5, 2.0, None)
    assert (second["seed"], second["accuracy"], second["epsilon_released"]) == (2**52, None, None)
    assert (third["error"], third["accuracy"]) == ("no data, none", None)
    assert [list(line) for line in lines] == [list(row) for row in table]
    for line, row in zip(lines, table, strict=True):
        assert line == {key: "" if value is None else str(value) for key, value in row.items()}


def test_columns_keep_their_kind(tmp_path: Path) -> None:
    mixed = [record_at(n, 0.5, a=n, b=bool(n), c="x", d=(n if n else "x")) for n in range(2)]
    write_tables(tmp_path, ["a", "b", "c", "d"], mixed)
    columns = pyarrow.parquet.read_table(tmp_path / "results.parquet").to_pydict()
    assert [columns[key] for key in "abcd"] == [[0, 1], [False, True], ["x", "x"], ["x", "1"]]


def test_tables_without_a_row_have_their_columns(tmp_path: Path) -> None:
    write_tables(tmp_path, ["privacy.epsilon"], [])
    assert (tmp_path / "results.csv").read_text().startswith("privacy.epsilon,seed,loss,")
    assert pyarrow.parquet.read_table(tmp_path / "results.parquet").num_rows == 0


def test_a_record_reads_back_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    for record in (record_at(1, 0.5), FAILED):
        write_record(tmp_path, record)
        assert read_record(tmp_path) == record
        assert record_of(json.loads((tmp_path / "result.json").read_text())) == record
    for text in ("", "{}", "[]", '{"run": 1}', "null"):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(StateError, match=r"result\.json is damaged"):
            read_record(tmp_path)


def test_the_summary_says_what_was_found_and_what_it_costs() -> None:
    text = summary(outcome_of(record_at(1, 0.5), record_at(2, 0.75, seed=2), FAILED))
    assert "2 of 3 finished, 3 s of training" in text
    assert "62.5% (50.0% to 75.0% over 2 seeds) on test records" in text
    assert "privacy.epsilon=1.0" in text
    assert "on real data these 4 runs together cost" in text
    assert "epsilon 9.500 for each record at delta 0.0001, to whoever sees only the released models" in text
    assert "epsilon 5.250 for each record" in text
    assert text.count("epsilon none: x, to the server") == 2


def test_a_sweep_that_released_nothing_states_no_cost() -> None:
    """0 runs at delta 1 are not an epsilon of 0."""
    outcome = replace(outcome_of(FAILED), cost=cost_of_runs([], [], Path()))
    assert "no run was finished" in summary(outcome)
    assert "epsilon" not in summary(outcome)


def test_private_selection_shows_the_outcome_alone() -> None:
    outcome = outcome_of(record_at(1, 0.5), selection=Selection("geometric", 4.0, ((0, 1), (1, 2), (1, 3))))
    text, values = summary(outcome), to_json(outcome)
    assert "runs  " not in text
    assert "private, 4 geometric tries expected; on real data the outcome costs" in text
    assert set(values) == {"name", "out", "seconds", "best", "search", "selection"}
    assert values["selection"] == {"law": "geometric", "tries": 4.0}
    assert "runs" not in values["search"]


def test_json_has_points_front_and_both_costs() -> None:
    values = json.loads(json.dumps(to_json(outcome_of(record_at(1, 0.5), record_at(2, 0.25, 2.0), FAILED))))
    assert (values["runs"], values["failed"], len(values["points"]), len(values["front"])) == (3, 1, 2, 1)
    assert values["best"]["accuracy"] == 0.5
    assert values["search"]["epsilon"] == {"server": None, "released": 9.5}
    assert values["search"]["one_run_a_point"]["released"] == 5.25


def test_failures_are_an_error_that_names_the_first() -> None:
    check_failures(outcome_of(record_at(1, 0.5)))
    with pytest.raises(RunsFailed) as fault:
        check_failures(outcome_of(record_at(1, 0.5), FAILED))
    assert fault.value.what == "1 of 2 runs failed, the first: no data, none"
    assert "find some" in fault.value.hint
    assert fault.value.exit_code != 0


def test_progress_counts_runs_and_judges_time_by_fresh_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    with SweepProgress({1: 10, 2: 10, 3: 10}, [record_at(1, 0.5)], shown=True) as progress:
        assert progress.figures.startswith("1/3 runs  0 running  best 50.0%")
        progress.update({"run": 2, "round": 5, "fresh": False})
        assert "1 running" in progress.figures
        assert "-:--:--" in progress.figures
        progress.update({"run": 2, "round": 6, "fresh": True})
        assert "0:00:0" in progress.figures
        progress.update({"run": 2, "record": {"error": None, "figures": {"accuracy": 0.75}}})
        progress.update({"run": 3, "record": {"error": "x", "figures": {}}})
        assert progress.figures.startswith("3/3 runs  0 running  1 failed  best 75.0%  time left 0:00:00")
    assert capsys.readouterr().err == ""
