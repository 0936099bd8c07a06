"""The keys of a plan that name columns and their transforms: text, digest, rules."""

from __future__ import annotations

import copy
import pickle
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Plan, PlanError, parse_tables
from bract.privacy.plan.schema import Column, Data
from bract.privacy.plan.toml import parse_plan

TAKEN = [{"standardize": "auto"}, {"scale": "data"}, "auto", {"fill": {"mean": True}}, {"mean": "auto"}]
number = st.floats(allow_nan=False, allow_infinity=False)
word = st.one_of(number, st.text())
pair = st.tuples(number, number)
column = st.builds(
    Column,
    missing=st.none() | st.lists(word, min_size=1, max_size=3).map(tuple),
    fill=st.none() | word,
    clip=st.none() | pair,
    scale=st.none() | pair,
    standardize=st.none() | pair,
    values=st.none() | st.lists(word, min_size=1, max_size=3).map(tuple),
    other=st.sampled_from([None, "zeros", "column"]),
)


def plan(**data: object) -> Plan:
    return parse_plan({"data": {"shape": [3], "classes": 2, **data}, "privacy": {"delta": 1e-4}}, Plan)


@given(st.dictionaries(st.text(min_size=1), column, min_size=1, max_size=4), st.lists(word, min_size=1, max_size=3))
def test_a_plan_with_columns_is_its_own_text(columns: dict[str, Column], labels: list[float | str]) -> None:
    first = Plan(data=Data(columns=columns, labels=tuple(labels), features=("a", "b]\n")))
    again = Plan.model_validate(tomllib.loads(first.to_toml()))
    assert again == first
    assert hash(again) == hash(first)
    assert again.digest == first.digest
    assert Plan.model_validate(tomllib.loads(first.offered())).digest == first.digest


def test_keys_that_are_absent_are_not_in_the_digest() -> None:
    """The digest of a plan of an older version stays as it was."""
    assert set(plan().public()["data"]) == {"name", "split", "clients", "holdout", "seed", "shape", "classes"}
    assert plan().digest != plan(columns={"a": {"scale": [0, 1]}}).digest


def test_the_order_of_columns_makes_no_difference() -> None:
    a, b = {"scale": [0, 1]}, {"clip": [0, 1]}
    one, two = plan(columns={"a": a, "b": b}), plan(columns={"b": b, "a": a})
    assert (one, one.digest, hash(one)) == (two, two.digest, hash(two))


def test_columns_are_frozen() -> None:
    data = plan(columns={"a": {"scale": [0, 1]}}).data
    assert data.columns is not None
    with pytest.raises(TypeError):
        data.columns["a"] = Column()
    with pytest.raises(TypeError):
        del data.columns["a"]
    assert pickle.loads(pickle.dumps(data)) == copy.deepcopy(data) == data


def test_a_plan_with_columns_is_typed_as_a_page() -> None:
    text = """
[data]
features = ["age", "sex"]
shape = [3]
classes = 2

[data.columns]
age = {scale = [20, 80], fill = 50}
sex = {values = ["m", "f"]}
"""
    found = parse_plan(parse_tables(text), Plan)
    assert found.data.columns == {"age": Column(scale=(20, 80), fill=50), "sex": Column(values=("m", "f"))}


@pytest.mark.parametrize("rule", TAKEN)
def test_a_transform_that_takes_statistics_is_refused(rule: object) -> None:
    """A plan has constants alone. What the data are like has a price, and no key pays it."""
    with pytest.raises(PlanError) as caught:
        plan(columns={"age": rule})
    assert "data.columns.age" in caught.value.what
    assert "public constants" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"columns": {"a": {"scale": [1, 1]}}}, "ends before it begins"),
        ({"columns": {"a": {"clip": [2, 1]}}}, "ends before it begins"),
        ({"columns": {"a": {"standardize": [1, 0]}}}, "deviation that is not above 0"),
        ({"columns": {"a": {"standardize": [1, 2], "scale": [0, 1]}}}, "both scale and standardize"),
        ({"columns": {"a": {"values": ["x"], "clip": [0, 1]}}}, "which are for numbers"),
        ({"columns": {"a": {"values": ["x", "x"]}}}, "a value twice"),
        ({"columns": {"a": {"values": ["x"], "fill": "y"}}}, "none of its values"),
        ({"columns": {"a": {"other": "zeros"}}}, "for a column with values"),
        ({"columns": {"a": {"fill": "x"}}}, "a word as fill"),
        ({"columns": {"a": {"missing": ["-9"]}}}, "but no fill"),
        ({"features": ["a"], "ignore": ["b"]}, "both given"),
        ({"features": ["a", "b", "a"]}, "twice"),
        ({"features": ["a", "b", "c"], "label": "a"}, "data.label is 'a'"),
        ({"label": "a", "client": "a"}, "another role"),
        ({"features": ["a", "b", "c"], "columns": {"d": {"scale": [0, 1]}}}, "none of data.features"),
        ({"features": ["a", "b"]}, "set data.shape = [2]"),
        ({"features": ["a", "b"], "columns": {"a": {"values": ["x", "y", "z"]}}}, "set data.shape = [4]"),
        ({"labels": ["a", "b", "c"]}, "lists 3 classes, data.classes is 2"),
        ({"labels": ["a", "a"]}, "a class twice"),
        ({"vocabulary": ["a"]}, "is for texts"),
        ({"tokens": "characters", "vocabulary": ["ab"]}, "neither one character"),
        ({"stride": 2}, "is for data.window"),
    ],
)
def test_columns_that_contradict_are_refused(data: dict[str, object], words: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan(**data)
    assert words in caught.value.what
