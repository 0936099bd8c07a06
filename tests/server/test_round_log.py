"""The log of rounds, line by line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from bract.privacy import StateError, StorageError
from bract.server.evaluation.metrics import FIGURES, Score
from bract.server.round_log import Metrics, RoundRecord


def record(number: int, **changes: Any) -> RoundRecord:
    fields = {
        "round": number,
        "loss": 1.25,
        "figures": {"accuracy": 0.5 + number / 100, "roc_auc": 0.75},
        "epsilon": {"server": None, "released": 0.1 * number},
        "cohort": 4,
        "survivors": 3,
        "codes": {"ok": 3, "refused": 1},
        "seconds": 1.5 * number,
    }
    return RoundRecord(**(fields | changes))


def written(path: Path, count: int) -> Metrics:
    metrics = Metrics(path, 0)
    for number in range(1, count + 1):
        metrics.write(record(number))
    return metrics


def fault(path: Path, rounds: int) -> str:
    """The first line of the two-line StateError that reading the file raises."""
    with pytest.raises(StateError) as caught:
        Metrics(path, rounds)
    what, hint = str(caught.value).split("\n")
    assert hint.startswith("hint: ")
    return what


def test_each_record_is_a_line_of_json_when_write_returns(tmp_path: Path) -> None:
    """It is in the file then."""
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, 0)
    for number in (1, 2, 3):
        metrics.write(record(number))
        lines = path.read_text().splitlines()
        assert len(lines) == number
        assert json.loads(lines[-1])["round"] == number
    assert metrics.records == [record(1), record(2), record(3)]


def test_records_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, 0)
    metrics.write(record(1, loss=None, figures=None, codes={}))
    metrics.write(record(2, figures={"mse": 0.25}))
    first, second = Metrics(path, 2).records
    assert first == record(1, loss=None, figures=None, codes={})
    assert first.score is None
    assert [r.quality for r in (first, second)] == ["quality not measured", "reconstruction error 0.25"]
    assert record(3, figures={"mae": 1.0}).quality == "quality not finite"
    assert second.score == Score(FIGURES["mse"], 0.25)


@pytest.mark.parametrize("keep", [0, 1, 3, 5, 9])
def test_records_of_undone_rounds_are_cut_off_in_the_file(tmp_path: Path, keep: int) -> None:
    """Rounds that a crash undid."""
    path = tmp_path / "metrics.jsonl"
    written(path, 5)
    expected = [record(number) for number in range(1, min(keep, 5) + 1)]
    assert Metrics(path, keep).records == expected
    assert Metrics(path, 99).records == expected


def test_a_resumed_file_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 3)
    Metrics(path, 2).write(record(3, figures={"accuracy": 0.9}))
    assert [r.figures["accuracy"] for r in Metrics(path, 3).records] == [0.51, 0.52, 0.9]


def test_a_last_line_torn_at_any_byte_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 2)
    content = path.read_bytes()
    start = content.index(b"\n") + 1
    for end in range(start, len(content)):
        path.write_bytes(content[:end])
        assert Metrics(path, 2).records == [record(1)]
        assert path.read_bytes() == content[:start]


def test_a_torn_line_of_half_a_letter_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 1)
    path.write_bytes(path.read_bytes() + b'{"round": "\xc3')
    assert Metrics(path, 1).records == [record(1)]


@pytest.mark.parametrize("line", ["", "x", "{}", "[]", "5", "null", '{"round": 2}', '{"round": 2, "more": 1}'])
def test_a_damaged_line_before_the_last_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 1)
    path.write_text(path.read_text() + line + "\n" + path.read_text())
    assert fault(path, 9) == f"error: {path} is damaged at line 2"


@pytest.mark.parametrize(
    "changes", [{"round": "2"}, {"round": 3}, {"figures": {"accuracy": 0.99}}, {"epsilon": {"released": 0.1}}]
)
def test_a_line_that_was_changed_is_damaged(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 2)
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps(json.loads(second) | changes)}\n")
    assert "damaged at line 2" in fault(path, 9)


def test_without_a_file_there_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert Metrics(path, 7).records == []
    assert path.read_bytes() == b""


def test_a_full_disk_is_told_and_the_record_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = written(path, 1)

    def full(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("bract.server.round_log.write_all", full)
        with pytest.raises(StorageError, match="no space left on device"):
            metrics.write(record(2))
    assert metrics.records == [record(1)]
    assert Metrics(path, 9).records == [record(1)]


def test_a_deleted_file_is_told_as_a_fault_of_storage(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = written(path, 1)
    path.unlink()
    with pytest.raises(StorageError):
        metrics.write(record(2))


def test_writing_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    written(tmp_path / "metrics.jsonl", 20)
    assert len(os.listdir("/proc/self/fd")) == before
