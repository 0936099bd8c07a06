"""A device's records: how they are selected and checked against the plan."""

from __future__ import annotations

import gc
import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from devices import make_tiny_plan, random_records

from bract.client.records import Records, check_records, fitting, make_records, read_records
from bract.models import NETWORKS, Objective
from bract.models.objectives import NEXT_TOKEN, RECONSTRUCTION, REGRESSION
from bract.privacy import DataError

CPU = torch.device("cpu")


def refusal(call: Callable[[], object]) -> str:
    """The first line of the two-line DataError that the call raises."""
    with pytest.raises(DataError) as caught:
        call()
    what, hint = str(caught.value).split("\n")
    assert what.startswith("error: ")
    assert hint.startswith("hint: ")
    return what


def write(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def test_selected_records_keep_their_labels_and_their_order() -> None:
    records = random_records(5)
    chosen = records.select(np.array([True, False, True, True, False]))
    assert torch.equal(chosen.features, records.features[[0, 2, 3]])
    assert torch.equal(chosen.labels, records.labels[[0, 2, 3]])


def test_no_record_selected_is_an_empty_batch() -> None:
    chosen = random_records(5).select(np.zeros(5, dtype=np.bool_))
    assert (len(chosen), chosen.features.shape) == (0, (0, 1, 2, 2))


def test_chunks_are_the_records_in_order_each_at_most_the_size() -> None:
    records = random_records(7)
    chunks = records.chunks(3)
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert torch.equal(torch.cat([chunk.features for chunk in chunks]), records.features)
    assert torch.equal(torch.cat([chunk.labels for chunk in chunks]), records.labels)


def test_records_print_their_number_only() -> None:
    records = make_records(np.full((2, 1, 2, 2), 0.5, dtype=np.float32), np.array([1, 2]), CPU)
    assert repr(records) == str(records) == "Records(2)"


def test_records_as_the_plan_says_are_accepted() -> None:
    check_records(random_records(30), make_tiny_plan())


def test_no_records_at_all_are_accepted() -> None:
    """One may join or leave unseen."""
    check_records(random_records(5).select(np.zeros(5, dtype=np.bool_)), make_tiny_plan())


@pytest.mark.parametrize("label", [3, -1, -100])
def test_the_owners_log_says_how_many_records_do_not_count(caplog: pytest.LogCaptureFixture, label: int) -> None:
    records = random_records(5)
    fitting(records, make_tiny_plan())
    assert not caplog.records
    records.labels[[1, 3]] = label
    fitting(records, make_tiny_plan())
    assert "2 of 5 records have a label or token outside the plan's 0..2" in caplog.text


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 2), (4,), (2, 2, 1), ()])
def test_records_of_another_shape_than_the_plans_are_refused(shape: tuple[int, ...], count: int) -> None:
    records = Records(torch.zeros(count, *shape), torch.zeros(count, dtype=torch.int64))
    what = refusal(lambda: check_records(records, make_tiny_plan()))
    assert str(list(shape)) in what
    assert "[1, 2, 2]" in what


@pytest.mark.parametrize("label", [-1, 3, 255, 2**40])
def test_a_label_outside_the_classes_is_refused_and_not_told(label: int) -> None:
    records = random_records(5)
    records.labels[2] = label
    what = refusal(lambda: check_records(records, make_tiny_plan()))
    assert what == "error: a label lies outside 0..2"


def test_a_file_of_x_and_y_is_read_as_float32_and_int64(tmp_path: Path) -> None:
    x, y = np.arange(16, dtype=np.float64).reshape(4, 1, 2, 2), np.array([0, 1, 2, 0], dtype=np.uint8)
    records = read_records(write(tmp_path / "r.npz", x=x, y=y), CPU)
    assert (records.features.dtype, records.labels.dtype) == (torch.float32, torch.int64)
    assert np.array_equal(records.features.numpy(), x)
    assert np.array_equal(records.labels.numpy(), y)


def test_a_missing_file_is_refused_by_its_name(tmp_path: Path) -> None:
    assert "there is no data file" in refusal(lambda: read_records(tmp_path / "none.npz", CPU))


def not_a_zip(path: Path) -> None:
    path.write_bytes(b"x" * 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def torn(path: Path) -> None:
    write(path, x=np.zeros((4, 1, 2, 2)), y=np.zeros(4, dtype=int))
    path.write_bytes(path.read_bytes()[:-30])


def flipped(path: Path) -> None:
    write(path, x=np.zeros((400, 1, 2, 2)), y=np.zeros(400, dtype=int))
    content = bytearray(path.read_bytes())
    content[1000] ^= 0xFF
    path.write_bytes(bytes(content))


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((4, 1, 2, 2)))


def without_y(path: Path) -> None:
    write(path, x=np.zeros((4, 1, 2, 2)))


def of_words(path: Path) -> None:
    write(path, x=np.array(["a", "b"]), y=np.zeros(2, dtype=int))


def pickled(path: Path) -> None:
    write(path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1, dtype=int))


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"x": [1], "y": [1]}))


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [not_a_zip, empty, flipped, one_array, without_y, of_words, pickled, bare_pickle, folder]
)
def test_a_damaged_file_is_refused_and_closed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "r.npz"
    damage(path)
    what, left_open = refuse_and_count(path)
    assert "cannot read the data file" in what
    assert not left_open


def test_a_torn_file_is_refused_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    torn(path)
    what, left_open = refuse_and_count(path)
    assert "cannot read the data file" in what
    assert not left_open


def refuse_and_count(path: Path) -> tuple[str, int]:
    """The first line of the refusal to read `path`, and how many times the file is still open then."""
    with pytest.raises(DataError) as caught:
        read_records(path, CPU)
    what = str(caught.value).split("\n")[0]
    left_open = sum(Path(f"/proc/self/fd/{number}").resolve() == path for number in os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del caught
        gc.collect()
    return what, left_open


class Traitor:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_no_code_in_a_data_file_is_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = write(tmp_path / "r.npz", x=np.array([Traitor(made)], dtype=object), y=np.zeros(1, dtype=int))
    refusal(lambda: read_records(path, CPU))
    assert not made.exists()


@pytest.mark.parametrize("lengths", [(3, 4), (4, 3), (0, 1)])
def test_unequal_lengths_are_refused(tmp_path: Path, lengths: tuple[int, int]) -> None:
    x, y = np.zeros((lengths[0], 1, 2, 2)), np.zeros(lengths[1], dtype=int)
    assert "cannot read" in refusal(lambda: read_records(write(tmp_path / "r.npz", x=x, y=y), CPU))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_record_that_is_not_finite_costs_the_others_nothing(tmp_path: Path, poison: float) -> None:
    x = np.zeros((4, 1, 2, 2))
    x[1, 0, 1, 0] = poison
    path = write(tmp_path / "r.npz", x=x, y=np.zeros(4, dtype=int))
    assert len(read_records(path, CPU)) == 4


def test_the_words_of_a_refusal_hold_no_value_of_a_record(tmp_path: Path) -> None:
    x = np.full((4, 1, 2, 2), 0.123456)
    path = write(tmp_path / "r.npz", x=x, y=np.full(4, 777.5)[:, None])
    what = refusal(lambda: read_records(path, CPU))
    assert "0.123" not in what
    assert "777" not in what


def test_arrays_without_a_length_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.npz", x=np.float32(1.0), y=np.int64(1))
    refusal(lambda: read_records(path, CPU))


@pytest.mark.parametrize("labels", [np.array(["a"] * 4), np.zeros(4, dtype=bool), np.zeros((4, 1)), np.zeros(3)])
def test_labels_that_are_no_list_of_numbers_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    path = write(tmp_path / "r.npz", x=np.zeros((4, 1, 2, 2)), y=labels)
    refusal(lambda: read_records(path, CPU))


TOKENS = np.array([[0, 1, 2], [2, 1, 0], [1, 1, 1]])


def test_whole_numbers_with_a_label_at_every_place_are_tokens(tmp_path: Path) -> None:
    records = read_records(write(tmp_path / "r.npz", x=TOKENS.astype(np.uint16), y=TOKENS[::-1]), CPU)
    assert (records.features.dtype, records.labels.dtype) == (torch.int64, torch.int64)
    assert records.features.tolist() == TOKENS.tolist()
    assert records.labels.tolist() == TOKENS[::-1].tolist()
    assert len(records.select(np.array([True, False, True]))) == 2
    assert [len(chunk) for chunk in records.chunks(2)] == [2, 1]


def test_whole_numbers_with_a_label_each_are_floats_as_ever(tmp_path: Path) -> None:
    records = read_records(write(tmp_path / "r.npz", x=TOKENS, y=TOKENS[0]), CPU)
    assert (records.features.dtype, records.labels.shape) == (torch.float32, (3,))


@pytest.mark.parametrize("x", [TOKENS.astype(np.float32), TOKENS[:, :2], TOKENS[:2], TOKENS[:, :, None]])
def test_labels_at_every_place_of_something_else_are_refused(tmp_path: Path, x: np.ndarray) -> None:
    assert "cannot read" in refusal(lambda: read_records(write(tmp_path / "r.npz", x=x, y=TOKENS), CPU))


@pytest.mark.parametrize(("name", "value"), [("features", 3), ("features", -1), ("labels", 3), ("labels", -1)])
def test_a_run_of_tokens_outside_the_classes_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    monkeypatch.setitem(NETWORKS, "tiny", replace(NETWORKS["tiny"], objective=lambda shape: NEXT_TOKEN))
    plan = make_tiny_plan(data={"shape": [3]})
    records = make_records(TOKENS.copy(), TOKENS[::-1].copy(), CPU)
    getattr(records, name)[1, 2] = value
    assert refusal(lambda: check_records(records, plan)) == "error: a label or token lies outside 0..2"
    kept = fitting(records, plan)
    assert len(kept) == 3
    assert int(torch.stack([kept.features, kept.labels]).min()) >= 0
    assert int(torch.stack([kept.features, kept.labels]).max()) <= 2
    taken = kept.select(np.ones(3, dtype=np.bool_))
    assert taken.features.tolist() == TOKENS[[0, 2]].tolist()
    assert taken.labels.tolist() == TOKENS[[2, 0]].tolist()


def test_floats_with_each_record_are_numbers_to_predict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    y = np.array([0.5, -1.75, 300.0, np.nan])
    records = read_records(write(tmp_path / "r.npz", x=np.ones((4, 1, 2, 2)), y=y), CPU)
    assert records.labels.dtype == torch.float32
    assert np.array_equal(records.labels.numpy(), y, equal_nan=True)
    what = refusal(lambda: fitting(records, make_tiny_plan()))
    assert what == "error: the model tiny takes numbers with one label per record, which these records are not"
    monkeypatch.setitem(NETWORKS, "tiny", replace(NETWORKS["tiny"], objective=lambda shape: REGRESSION))
    assert torch.equal(fitting(records, make_tiny_plan()).labels[:3], records.labels[:3])


@pytest.mark.parametrize("labels", [np.array([0, 99, -1]), np.array([0.5, -1.0, np.inf], dtype=np.float32)])
def test_labels_are_passed_over_where_records_are_reconstructed(
    monkeypatch: pytest.MonkeyPatch, labels: np.ndarray
) -> None:
    monkeypatch.setitem(NETWORKS, "tiny", replace(NETWORKS["tiny"], objective=lambda shape: RECONSTRUCTION))
    records = make_records(np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2), labels, CPU)
    kept = fitting(records, make_tiny_plan())
    assert torch.equal(kept.labels, records.features)
    assert kept.select(np.array([False, True, True])).labels.shape == (2, 1, 2, 2)


@pytest.mark.parametrize("learns", [REGRESSION, RECONSTRUCTION])
def test_tokens_are_refused_where_numbers_are_wanted(monkeypatch: pytest.MonkeyPatch, learns: Objective) -> None:
    monkeypatch.setitem(NETWORKS, "tiny", replace(NETWORKS["tiny"], objective=lambda shape: learns))
    records = make_records(TOKENS.copy(), TOKENS.copy(), CPU)
    assert f"takes {learns.records}" in refusal(lambda: fitting(records, make_tiny_plan(data={"shape": [3]})))
