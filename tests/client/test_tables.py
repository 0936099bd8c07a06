"""A device's .csv file: lines that a plan turns into records, and files that went through its transforms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from devices import make_tiny_plan

from bract.client.records import Records, Sheet, check_kind, fitting, read_records
from bract.privacy import DataError, Plan
from bract.privacy.plan.schema import Column, Data

CPU = torch.device("cpu")
DATA = Data(
    shape=(1, 2, 2),
    classes=3,
    features=("age", "sex", "dose"),
    labels=("a", "b", "c"),
    columns={"age": Column(scale=(20, 80), fill=50), "sex": Column(values=("m", "f"))},
)
GOOD = "80,m,2,a"


@pytest.fixture
def plan() -> Plan:
    return make_tiny_plan().model_copy(update={"data": DATA})


@pytest.fixture
def sheet(tmp_path: Path) -> Callable[..., Records | Sheet]:
    """A function: the records of a .csv file of these lines."""

    def read(*lines: str) -> Records | Sheet:
        (tmp_path / "d.csv").write_text("\n".join(["age,sex,dose,label", *lines]))
        return read_records(tmp_path / "d.csv", CPU)

    return read


def test_a_table_becomes_the_records_of_the_plan(plan: Plan, sheet: Callable) -> None:
    found = fitting(sheet(GOOD, "?,f,-1,c"), plan)
    assert found.features.tolist() == [[[[1, 1], [0, 2]]], [[[0, 0], [1, -1]]]]
    assert found.labels.tolist() == [0, 2]
    assert found.fits is not None
    assert found.fits.all()


@pytest.mark.parametrize("line", ["80,x,2,a", "80,m,,a", "80,m,2,d", "80,m,2", '80,"m,2,a', "inf,m,2,a", "\x00"])
def test_a_cell_that_does_not_fit_makes_a_blank(plan: Plan, sheet: Callable, line: str) -> None:
    """The device refuses nothing for it, so a refusal and the number of records never depend on a record's values."""
    found = sheet(GOOD, line, GOOD)
    check_kind(found, plan)
    records = fitting(found, plan)
    assert len(records) == 3
    assert records.fits is not None
    assert records.fits.tolist() == [True, False, True]
    assert len(records.select(np.ones(3, dtype=np.bool_))) == 2


def test_a_table_of_no_record_is_accepted(plan: Plan, sheet: Callable) -> None:
    assert len(fitting(sheet(), plan)) == 0


@pytest.mark.parametrize("lines", [(), (GOOD,)])
def test_a_table_without_the_plans_columns_is_refused(plan: Plan, sheet: Callable, lines: tuple[str, ...]) -> None:
    data = DATA.model_copy(update={"features": ("age", "sex", "weight")})
    with pytest.raises(DataError, match="no column 'weight'"):
        fitting(sheet(*lines), plan.model_copy(update={"data": data}))


def test_a_table_prints_its_number_only(sheet: Callable) -> None:
    assert repr(sheet(GOOD)) == "Sheet(1)"


def test_parquet_is_refused_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_records(tmp_path / "d.parquet", CPU)
    assert "to_csv" in caught.value.hint


def save(path: Path, mark: str | None) -> Path:
    arrays = {"x": np.full((2, 1, 2, 2), 10.0), "y": np.arange(2)}
    np.savez(path, **(arrays if mark is None else arrays | {"transforms": np.array(mark)}))
    return path


def test_marked_records_are_not_transformed_twice(plan: Plan, tmp_path: Path) -> None:
    found = fitting(read_records(save(tmp_path / "d.npz", DATA.transforms), CPU), plan)
    assert (found.features == 10).all()


@pytest.mark.parametrize("mark", ["0" * 64, None])
def test_records_of_other_transforms_are_refused(plan: Plan, tmp_path: Path, mark: str | None) -> None:
    with pytest.raises(DataError):
        fitting(read_records(save(tmp_path / "d.npz", mark), CPU), plan)
    marked = read_records(save(tmp_path / "d.npz", DATA.transforms), CPU)
    with pytest.raises(DataError, match="other transforms"):
        fitting(marked, plan.model_copy(update={"data": Data(shape=(1, 2, 2), classes=3)}))


def test_arrays_are_scaled_where_the_plan_says_so(plan: Plan, tmp_path: Path) -> None:
    every = Data(shape=(1, 2, 2), classes=3, columns={"*": Column(scale=(0, 20))})
    raw = read_records(save(tmp_path / "d.npz", None), CPU)
    assert not fitting(raw, plan.model_copy(update={"data": every})).features.any()


def test_the_rule_for_every_feature_leaves_the_label_alone(plan: Plan, sheet: Callable) -> None:
    """A simulation reads the label so too; only an entry of the label's own name scales it."""
    rules = {"*": Column(scale=(0, 10))}
    data = Data(shape=(1, 2, 2), classes=1, features=("age", "sex", "dose", "age"), columns=rules)
    with pytest.raises(DataError, match="which these records are not"):
        fitting(sheet("1,2,3,7"), plan.model_copy(update={"data": data}))
    linear = plan.model_copy(update={"data": data, "model": plan.model.model_copy(update={"name": "linear"})})
    assert fitting(sheet("1,2,3,7"), linear).labels.tolist() == [7.0]
