from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from bract.client.terms import Refused, Terms, read_terms
from bract.privacy import Plan, PlanError

Make = Callable[..., Plan]


def refusal(terms: Terms, plan: Plan) -> str:
    with pytest.raises(Refused) as caught:
        terms.check(plan)
    return str(caught.value)


def fault(path: Path) -> str:
    """The first line of the two-line PlanError that reading the file raises."""
    with pytest.raises(PlanError) as caught:
        read_terms(path)
    what, hint = str(caught.value).split("\n")
    assert what.startswith("error: ")
    assert str(path) in what
    assert hint.startswith("hint: write keys max_epsilon, max_delta, trusted_server, models")
    return what


def test_without_a_word_from_the_owner_the_server_is_not_trusted(make: Make) -> None:
    assert "do not trust it" in refusal(Terms(), make(privacy={"noise": "central"}))


def test_without_a_word_from_the_owner_a_plan_that_noises_on_the_device_is_accepted(make: Make) -> None:
    Terms().check(make())


def test_a_trusted_server_may_add_the_noise(make: Make) -> None:
    Terms(trusted_server=True).check(make(privacy={"noise": "central"}))


def test_trust_in_the_server_does_not_loosen_the_other_terms(make: Make) -> None:
    terms = Terms(trusted_server=True, max_epsilon=7.9)
    assert "epsilon 8" in refusal(terms, make(privacy={"noise": "central"}))


@pytest.mark.parametrize("noise", ["central", "local"])
def test_epsilon_is_accepted_up_to_the_most_allowed_and_no_further(make: Make, noise: str) -> None:
    plan = make(privacy={"noise": noise})
    Terms(trusted_server=True, max_epsilon=8.0).check(plan)
    words = refusal(Terms(trusted_server=True, max_epsilon=7.999), plan)
    assert words == "the plan spends epsilon 8, these terms allow 7.999"


def test_the_default_terms_allow_epsilon_10_and_no_more(make: Make) -> None:
    Terms().check(make(privacy={"epsilon": 10.0}))
    assert "these terms allow 10" in refusal(Terms(), make(privacy={"epsilon": 10.001}))


def test_delta_is_accepted_up_to_the_most_allowed_and_no_further(make: Make) -> None:
    Terms(max_delta=1e-3).check(make())
    assert refusal(Terms(max_delta=9e-4), make()) == "the plan has delta 0.001, these terms allow 0.0009"
    assert "0.005" in refusal(Terms(), make(privacy={"delta": 5e-3}))


def test_only_the_models_that_the_owner_names_are_trained(make: Make) -> None:
    Terms(models=("cnn", "tiny")).check(make())
    assert refusal(Terms(models=("cnn",)), make()) == "the plan trains tiny, these terms allow cnn"
    assert "tiny" in refusal(Terms(models=()), make())


def test_terms_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Terms().trusted_server = True


def test_a_file_of_terms_is_read(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    path.write_text('max_epsilon = 2\nmax_delta = 1e-6\ntrusted_server = true\nmodels = ["cnn"]\n')
    assert read_terms(path) == Terms(max_epsilon=2.0, max_delta=1e-6, trusted_server=True, models=("cnn",))


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    path.write_text("")
    assert read_terms(path) == Terms()


@pytest.mark.parametrize(
    "text",
    [
        "max_epsilon = 0",
        "max_epsilon = -1",
        "max_epsilon = inf",
        "max_epsilon = nan",
        'max_epsilon = "much"',
        "max_delta = 0",
        "max_delta = 1.0",
        "max_delta = nan",
        "trusted_server = 2",
        "trusted_server = []",
        'models = "cnn"',
        "models = [1]",
        "maxepsilon = 1",
        "[terms]\nmax_epsilon = 1",
        "max_epsilon",
        "max_epsilon = 1\nmax_epsilon = 2",
        "= 1",
    ],
)
def test_a_key_or_a_value_that_terms_do_not_know_is_refused_in_two_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "terms.toml"
    path.write_text(text)
    assert "are not valid" in fault(path)


def test_a_refused_value_is_named(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    path.write_text("max_epsilon = -1")
    assert "max_epsilon" in fault(path)


def test_a_missing_file_is_refused_and_never_read_as_the_defaults(tmp_path: Path) -> None:
    assert "cannot read the terms" in fault(tmp_path / "none.toml")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot read the terms" in fault(tmp_path)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot read the terms" in fault(path)
