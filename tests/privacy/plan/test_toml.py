"""Plans as TOML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Plan, PlanError, accept_plan, make_plan, override, parse_tables, read_tables

NOISE = {"noise_multiplier": 20.0}
"""Given, so that nothing is calibrated."""


# Reading TOML


def test_a_plan_file_reads_as_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('[cohort]\nrounds = 3\n[model]\nname = "cnn"\n')
    assert read_tables(path) == {"cohort": {"rounds": 3}, "model": {"name": "cnn"}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no plan file"),
        (b"\xff\xfe", "cannot read"),
        (b"[cohort\n", "is not toml"),
        (b"[cohort]\nrounds = \n", "is not toml"),
        (b"[cohort]\nrounds = 1\nrounds = 2\n", "is not toml"),
        (b"rounds = 1\n", "has rounds outside a table"),
    ],
)
def test_a_file_that_is_no_plan_is_a_fault_that_names_it(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "plan.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError) as caught:
        read_tables(path)
    assert says in caught.value.what
    assert str(path) in caught.value.what
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("content", ["", "\n", "# a plan to come\n"])
def test_an_empty_file_is_no_plan_of_all_defaults(tmp_path: Path, content: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(content)
    with pytest.raises(PlanError, match="is empty") as caught:
        read_tables(path)
    assert "[data] and [privacy]" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("\ufeff[cohort]\nrounds = 1\n", "without a byte order mark"),
        ("[cohort]\nrounds = 1;\n", "leave out the mark at the end"),
        ("[cohort]\nrounds = 1,\n", "leave out the mark at the end"),
        ('[data]\npath = "C:\\Users\\x.csv"\n', "in single quotes"),
        ("[privacy]\nepsilon = .5\n", "a digit before the point"),
        ("[privacy]\nallow_large_delta = False\n", "true and false in small letters"),
        ("[model]\nname = cnn\n", 'in quotes, as name = "cnn"'),
        ("[data]\npath = /data/x.csv\n", "in quotes"),
        ("[cohort\n", "key = value"),
        ("a = {b = {c = [" * 9, "key = value"),
    ],
)
def test_text_that_is_not_toml_has_a_hint_that_fits(text: str, hint: str) -> None:
    with pytest.raises(PlanError, match="is not toml") as caught:
        parse_tables(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("privacy.epsilon=.5", "a digit before the point"),
        ("privacy.allow_large_delta=False", "true or false, in small letters"),
        ("privacy.epsilon=-1", "change privacy.epsilon (by default privacy.epsilon = 8.0)"),
        ("privacy.noise_multiplier=0", "change privacy.noise_multiplier or leave it out"),
        ("data.shape=3", "change data.shape (by default data.shape = [1, 28, 28])"),
        ("cohort.size=99", "change cohort.size or data.clients"),
        ("cohort.sizes=9", "[cohort] has rounds, size, minimum, deadline"),
        ("a.b=1", "under a table of a plan: [data]"),
    ],
)
def test_a_fault_of_a_plan_has_a_hint_that_names_what_to_type(setting: str, hint: str) -> None:
    with pytest.raises(PlanError, match="has a fault") as caught:
        make_plan(override({"privacy": NOISE}, [setting]), Plan)
    assert hint in caught.value.hint


def test_a_folder_is_no_plan_file(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read"):
        read_tables(tmp_path)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_tables_or_a_fault(text: str) -> None:
    try:
        tables = parse_tables(text)
    except PlanError:
        return
    assert all(isinstance(table, dict) for table in tables.values())


# Overrides


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("privacy.epsilon=4", 4),
        ("privacy.epsilon=4.5", 4.5),
        ("privacy.epsilon = 4", 4),
        ("privacy.delta=1e-5", 1e-5),
        ("data.path=/tmp/records.npz", "/tmp/records.npz"),
        ('data.path="quoted"', "quoted"),
        ("data.path=a=b", "a=b"),
        ("data.path=", ""),
        ("data.split=dirichlet:0.5", "dirichlet:0.5"),
        ("data.shape=[1, 8, 8]", [1, 8, 8]),
        ("x.flag=true", True),
        ("x.date=tomorrow", "tomorrow"),
    ],
)
def test_a_setting_is_a_toml_value_or_else_a_string(setting: str, value: Any) -> None:
    table, key = setting.partition("=")[0].strip().split(".")
    found = override({}, [setting])[table][key]
    assert found == value
    assert type(found) is type(value)


def test_a_later_setting_wins_and_other_keys_stay() -> None:
    tables = {"cohort": {"rounds": 1, "size": 2}}
    assert override(tables, ["cohort.rounds=5", "cohort.rounds=6"]) == {"cohort": {"rounds": 6, "size": 2}}


def test_what_was_given_is_not_changed() -> None:
    tables = {"cohort": {"rounds": 1}}
    override(tables, ["cohort.rounds=5", "privacy.epsilon=1"])
    assert tables == {"cohort": {"rounds": 1}}


@pytest.mark.parametrize("setting", ["", "epsilon", "epsilon=4", "privacy.epsilon", "=4", ".epsilon=4", "privacy.=4"])
def test_a_setting_of_another_form_is_a_fault_that_shows_it(setting: str) -> None:
    with pytest.raises(PlanError) as caught:
        override({}, [setting])
    assert f"--set {setting} is not" in caught.value.what
    assert len(str(caught.value).splitlines()) == 2


# What a deployment reads


def test_what_only_simulations_read_is_left_aside() -> None:
    text = "[simulation]\nseed = 7\n[privacy]\nnoise_multiplier = 20.0\n"
    assert accept_plan(text).plan == make_plan({"privacy": dict(NOISE)}, Plan)


@pytest.mark.parametrize("weaker", ['unit = "none"', 'noise = "none"', "noise_multiplier = 0.0", "epsilon = inf"])
def test_no_text_gives_a_deployment_a_plan_that_protects_nobody(weaker: str) -> None:
    with pytest.raises(PlanError):
        accept_plan(f"[privacy]\n{weaker}\n[simulation]\nprotected = false\n")


# How many parameters the model has


def three_a_class(name: str, shape: tuple[int, ...], classes: int) -> int:
    """A counter that knows one network, for square records."""
    if shape[-1] != shape[-2]:
        raise ValueError(f"{name} takes square records, not {shape}")
    return {"cnn": 3}[name] * classes


def test_parameters_are_counted_and_written_for_devices() -> None:
    """Their number is written into what devices get."""
    tables = {"privacy": dict(NOISE), "data": {"classes": 7}}
    plan = make_plan(tables, Plan, count=three_a_class)
    assert plan.parameters == plan.model.parameters == 21
    assert accept_plan(plan.offered()).plan == plan
    assert plan.digest != make_plan(tables, Plan).digest
    assert accept_plan("[data]\nclasses = 7\n[privacy]\nnoise_multiplier = 20.0\n", three_a_class).plan == plan


def test_a_stated_number_of_parameters_must_be_the_networks() -> None:
    tables = {"privacy": dict(NOISE), "data": {"classes": 7}, "model": {"parameters": 21}}
    assert make_plan(tables, Plan, count=three_a_class).parameters == 21
    with pytest.raises(PlanError, match=r"model.parameters is 22, cnn has 21"):
        make_plan(tables | {"model": {"parameters": 22}}, Plan, count=three_a_class)


def test_a_number_of_parameters_stands_for_unknown_networks() -> None:
    """It is taken as it stands where no network is known."""
    tables = {"privacy": dict(NOISE), "model": {"name": "unheard of", "parameters": 5}}
    assert make_plan(tables, Plan).parameters == 5


def test_a_plan_without_a_number_of_parameters_gives_none() -> None:
    """The plan does not say how many there are."""
    plan = make_plan({"privacy": dict(NOISE)}, Plan)
    with pytest.raises(PlanError, match="does not say how many parameters"):
        _ = plan.parameters


def test_shared_noise_needs_a_known_number_of_parameters() -> None:
    """Noise that devices share cannot be sized for an unknown one."""
    privacy = NOISE | {"noise": "distributed"}
    with pytest.raises(PlanError, match="does not say how many parameters"):
        make_plan({"privacy": privacy, "aggregation": {"protocol": "secagg"}}, Plan)


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"model": {"name": "rnn"}}, "there is no model rnn"),
        ({"data": {"shape": [1, 28, 29]}}, "cnn takes square records, not (1, 28, 29)"),
    ],
)
def test_a_model_that_cannot_be_counted_is_a_fault_in_two_lines(tables: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError) as caught:
        make_plan({"privacy": dict(NOISE), **tables}, Plan, count=three_a_class)
    assert says in caught.value.what
    assert len(str(caught.value).splitlines()) == 2
