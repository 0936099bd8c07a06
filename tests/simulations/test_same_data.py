"""Data that are swapped while a run is cut off: found by their content, wherever they lie."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bract.privacy import DataError, override, read_tables
from bract.server.round_log import RoundRecord
from bract.server.training import NullObserver
from bract.simulations.run import simulate
from bract.simulations.same_data import DATA_DIGEST_FILE
from bract.simulations.study import make_study, read_run
from bract.simulations.sweep import run as module
from bract.simulations.sweep.axes import Axis
from bract.simulations.sweep.request import SweepRequest
from bract.simulations.sweep.results import read_record, write_record
from bract.simulations.sweep.run import sweep

Arrays = dict[str, np.ndarray]


class Cut(Exception):
    pass


class Cutting(NullObserver):
    def finished_round(self, record: RoundRecord) -> None:
        raise Cut


def cut_off(plan: Path, folder: Path) -> None:
    with pytest.raises(Cut):
        simulate(make_study(override(read_tables(plan), ["model.name=logistic"])), folder, Cutting())


def rewrite(path: Path, change: Callable[[Arrays], None]) -> None:
    with np.load(path) as held:
        arrays = {name: held[name].copy() for name in held.files}
    change(arrays)
    np.savez(path, **arrays)


def one_pixel(arrays: Arrays) -> None:
    arrays["x"][0, 0, 0, 0] += 1


def one_label(arrays: Arrays) -> None:
    arrays["y"][0] = (arrays["y"][0] + 1) % 3


def one_test_record(arrays: Arrays) -> None:
    arrays["x"][-1] += 1


def two_owners(arrays: Arrays) -> None:
    arrays["client"][[0, 10]] = arrays["client"][[10, 0]]


@pytest.mark.parametrize("change", [one_pixel, one_label, one_test_record, two_owners])
def test_swapped_data_are_refused_when_a_run_goes_on(
    change: Callable[[Arrays], None], tiny_plan: Path, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    cut_off(tiny_plan, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    rewrite(tiny_data, change)
    with pytest.raises(DataError, match=f"the data have changed since the run in {out} began"):
        simulate(read_run(out), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_the_same_data_in_another_file_are_the_same_data(tiny_plan: Path, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cut_off(tiny_plan, out)
    rewrite(tiny_data, lambda arrays: arrays.update(x=arrays["x"].astype(np.float64)))
    assert simulate(read_run(out), out).rounds == 3


def test_the_digest_of_the_data_is_private_and_gone_in_the_end(tiny_plan: Path, tmp_path: Path) -> None:
    """Whoever knows all records but one could try that one against it."""
    out = tmp_path / "run"
    cut_off(tiny_plan, out)
    assert stat.S_IMODE((out / DATA_DIGEST_FILE).stat().st_mode) == 0o600
    simulate(read_run(out), out)
    assert not (out / DATA_DIGEST_FILE).exists()


def test_runs_of_a_sweep_do_not_go_on_over_swapped_data(tiny_plan: Path, tiny_data: Path, tmp_path: Path) -> None:
    """One of two runs fails, so that the sweep is gone on with; the data have changed by then."""
    tables = override(read_tables(tiny_plan), ["cohort.rounds=1", "model.name=logistic"])
    request = SweepRequest("tiny", tables, (Axis("training.learning_rate", (0.5, 1.0)),))
    out = tmp_path / "sweep"
    first = sweep_with_a_failure(request, out)
    assert first == [None, "the disk failed"]
    rewrite(tiny_data, one_pixel)
    again = [record.error for record in sweep(request, out, jobs=1, shown=False).records]
    assert again[0] is None
    assert "the data have changed" in str(again[1])
    kept = list(out.glob(f"*.{DATA_DIGEST_FILE}"))
    assert [stat.S_IMODE(path.stat().st_mode) for path in kept] == [0o600]


def sweep_with_a_failure(request: SweepRequest, out: Path) -> list[str | None]:
    """Make the sweep, then have its second run forget that it was finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "forget_data", lambda path: None)
        sweep(request, out, jobs=1, shown=False)
    record = read_record(out / "run-002")
    assert record is not None
    write_record(out / "run-002", replace(record, error="the disk failed"))
    for name in ("ledger.jsonl", "checkpoint.bract", "plan.toml", "metrics.jsonl"):
        (out / "run-002" / name).unlink()
    return [read_record(out / f"run-00{number}").error for number in (1, 2)]  # pyright: ignore
