"""What the owner's terms accept and refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from devices import make_tiny_plan
from pydantic import ValidationError

from bract.client.terms import Refused, Terms, read_terms
from bract.models import count_parameters
from bract.privacy import Composed, DataError, Plan, PlanError, make_plan, mechanism_of, read_tables
from bract.privacy.accounting.accountant import epsilon
from bract.privacy.plan.thresholds import COMPLETE

Make = Callable[..., Plan]
EXPERIMENTS = Path(__file__).parents[2] / "simulations" / "experiments"


CLEAR = Terms(clear_updates=True)


@pytest.fixture
def secure() -> Make:
    """A function: as `make`, a plan with secure aggregation of two devices."""

    def plan(**tables: dict[str, Any]) -> Plan:
        aggregation = {"protocol": "secagg"} | tables.pop("aggregation", {})
        return make_tiny_plan(aggregation=aggregation, **({"cohort": {"size": 2, "rounds": 2}} | tables))

    return plan


def refusal(terms: Terms, plan: Plan) -> str:
    with pytest.raises(Refused) as caught:
        terms.check(mechanism_of(plan))
    return str(caught.value)


def fault(path: Path) -> str:
    """The first line of the two-line PlanError that reading the file raises."""
    with pytest.raises(PlanError) as caught:
        read_terms(path)
    what, hint = str(caught.value).split("\n")
    assert what.startswith("error: ")
    assert str(path) in what
    assert "bract terms init" in hint
    return what


def test_without_a_word_from_the_owner_the_server_is_not_trusted() -> None:
    for protocol in ("sum", "secagg"):
        plan = make_tiny_plan(
            privacy={"noise": "central"}, aggregation={"protocol": protocol}, cohort={"size": 2, "rounds": 2}
        )
        assert "do not trust it" in refusal(Terms(), plan)
        assert "do not trust it" in refusal(Terms(clear_updates=True), plan)


def test_without_a_word_no_update_leaves_without_masks() -> None:
    """The owner said nothing of it."""
    for noise in ("local", "central"):
        plan = make_tiny_plan(privacy={"noise": noise})
        words = refusal(Terms(trusted_server=True), plan)
        assert words == "the plan sends updates without masks, these terms do not allow it"


def test_without_a_word_local_noise_under_masks_is_accepted(secure: Make) -> None:
    """A plan that noises and masks on the device needs no word from the owner."""
    Terms().check(mechanism_of(secure()))


def test_a_trusted_server_may_add_the_noise(secure: Make) -> None:
    Terms(trusted_server=True).check(mechanism_of(secure(privacy={"noise": "central"})))
    Terms(trusted_server=True, clear_updates=True).check(mechanism_of(make_tiny_plan(privacy={"noise": "central"})))


def test_updates_may_leave_without_masks_if_the_owner_says_so(secure: Make) -> None:
    """They may still leave with them."""
    CLEAR.check(mechanism_of(make_tiny_plan()))
    CLEAR.check(mechanism_of(secure()))


@pytest.mark.parametrize("trust", [{"trusted_server": True}, {"trusted_server": True, "clear_updates": True}])
def test_trust_in_the_server_does_not_loosen_the_other_terms(secure: Make, trust: dict[str, Any]) -> None:
    terms = Terms(max_epsilon=7.9, **trust)
    for plan in (make_tiny_plan(privacy={"noise": "central"}), secure(privacy={"noise": "central"})):
        assert "epsilon 8" in refusal(terms, plan)


@pytest.mark.parametrize("noise", ["central", "local"])
def test_epsilon_is_accepted_up_to_the_most_allowed(noise: str) -> None:
    plan = make_tiny_plan(privacy={"noise": noise})
    Terms(trusted_server=True, clear_updates=True, max_epsilon=8.0).check(mechanism_of(plan))
    words = refusal(Terms(trusted_server=True, clear_updates=True, max_epsilon=7.999), plan)
    assert words == "the plan spends epsilon 8, these terms allow 7.999"


def test_the_default_terms_allow_epsilon_10_and_no_more(secure: Make) -> None:
    Terms().check(mechanism_of(secure(privacy={"epsilon": 10.0})))
    assert "these terms allow 10" in refusal(Terms(), secure(privacy={"epsilon": 10.001}))


def test_delta_is_accepted_up_to_the_most_allowed_and_no_further(secure: Make) -> None:
    Terms(max_delta=1e-3).check(mechanism_of(secure()))
    assert refusal(Terms(max_delta=9e-4), secure()) == "the plan has delta 0.001, these terms allow 0.0009"
    assert refusal(Terms(max_delta=9e-4), make_tiny_plan()) == "the plan has delta 0.001, these terms allow 0.0009"
    assert "0.005" in refusal(Terms(), secure(privacy={"delta": 5e-3}))


def test_only_the_models_that_the_owner_names_are_trained(secure: Make) -> None:
    for clear, plan in ((True, make_tiny_plan()), (False, secure())):
        Terms(models=("cnn", "tiny"), clear_updates=clear).check(mechanism_of(plan))
        words = refusal(Terms(models=("cnn",), clear_updates=clear), plan)
        assert words == "the plan trains tiny, these terms allow cnn"
        assert "tiny" in refusal(Terms(models=(), clear_updates=clear), plan)


# Terms on secure aggregation


def test_colluders_must_be_as_many_as_the_owner_wants(secure: Make) -> None:
    """The plan may withstand more."""
    plan = secure(cohort={"size": 10}, data={"clients": 10}, aggregation={"colluders": 0.3})
    for least in (0, 2):
        Terms(min_colluders=least).check(mechanism_of(plan))
    words = refusal(Terms(min_colluders=3), plan)
    assert words == "the plan withstands 2 colluders, these terms want 3"


def test_a_share_of_colluders_that_is_no_device_is_not_enough(secure: Make) -> None:
    """It is no whole device, and satisfies no owner who wants one."""
    plan = secure(cohort={"size": 3}, data={"clients": 3}, aggregation={"colluders": 1 / 3})
    assert refusal(Terms(min_colluders=1), plan) == "the plan withstands 0 colluders, these terms want 1"


def test_a_trusting_plan_is_refused_if_the_owner_does_not_trust(secure: Make) -> None:
    """The plan trusts the server to follow the protocol."""
    words = refusal(Terms(malicious_server=True), secure())
    assert words == "the plan trusts the server to follow the protocol, these terms do not"
    for wants in (True, False):
        Terms(malicious_server=wants).check(mechanism_of(secure(aggregation={"mode": "malicious-server"})))


def test_too_few_survivors_are_refused_at_the_offer(secure: Make) -> None:
    """Three devices of which one may go: with it gone the other two would train, pay, and then be refused."""
    plan = secure(cohort={"size": 3}, data={"clients": 3})
    assert plan.least_survivors == 2
    Terms(min_survivors=2).check(mechanism_of(plan))
    words = refusal(Terms(min_survivors=3), plan)
    assert words.startswith("the plan opens sums over 2 devices, these terms want 3")
    assert "cohort.minimum = 3" in words
    Terms(min_survivors=3).check(mechanism_of(secure(cohort={"size": 3, "minimum": 3}, data={"clients": 3})))


def test_terms_on_survivors_or_a_lying_server_want_all_to_mask(
    secure: Make,
) -> None:
    """Terms that want a number of survivors, or a lying server withstood, refuse a sparse graph."""
    size = COMPLETE + 1
    sparse = secure(cohort={"size": size}, data={"clients": size}, aggregation={"colluders": 0.05, "dropouts": 0.1})
    full = secure(cohort={"size": COMPLETE}, data={"clients": COMPLETE}, aggregation={"colluders": 0.05})
    Terms().check(mechanism_of(sparse))
    Terms(min_survivors=2).check(mechanism_of(full))
    assert "sparse graph" in refusal(Terms(min_survivors=2), sparse)
    assert "trusts the server" in refusal(Terms(malicious_server=True), sparse)


def test_clear_updates_do_not_loosen_the_terms_on_masks(secure: Make) -> None:
    for wants in ({"min_survivors": 4}, {"malicious_server": True}, {"min_colluders": 4}):
        refusal(Terms(clear_updates=True, **wants), secure())


def test_the_device_may_ever_spend_what_the_terms_allow_a_plan() -> None:
    budget = Terms(max_epsilon=2.5, max_delta=1e-4).budget
    assert (budget.epsilon, budget.delta) == (2.5, 1e-4)


def test_keys_that_are_not_hybrid_are_refused_if_unwanted(secure: Make) -> None:
    """The owner's terms want hybrid keys."""
    words = refusal(Terms(hybrid_keys=True), secure())
    assert words == "the plan's keys are x25519, these terms want hybrid"
    for wants in (True, False):
        Terms(hybrid_keys=wants).check(mechanism_of(secure(aggregation={"key_exchange": "hybrid"})))


def test_rounds_that_are_worth_next_to_nothing_are_refused() -> None:
    probe = make_tiny_plan(privacy={"noise_multiplier": 1e4})
    assert refusal(CLEAR, probe) == "a round is worth epsilon 0, these terms want 0.001"
    Terms(clear_updates=True, min_round_epsilon=0).check(mechanism_of(probe))
    CLEAR.check(mechanism_of(make_tiny_plan()))
    assert "these terms want 0.5" in refusal(Terms(clear_updates=True, min_round_epsilon=0.5), make_tiny_plan())


def test_a_round_is_worth_its_share_of_what_all_rounds_cost() -> None:
    plan = make_tiny_plan()
    mechanism = mechanism_of(plan)
    event = mechanism.event(mechanism.budget_view)
    alone, share = (epsilon(Composed(event, rounds), 1e-3) / rounds for rounds in (1, plan.participations))
    assert share < 0.99 * alone
    assert "a round is worth" in refusal(Terms(clear_updates=True, min_round_epsilon=(alone + share) / 2), plan)
    Terms(clear_updates=True, min_round_epsilon=0.99 * share).check(mechanism)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_no_plan_that_ships_is_taken_for_a_probe(path: Path) -> None:
    tables = {name: table for name, table in read_tables(path).items() if name in Plan.model_fields}
    plan = make_plan(tables, Plan, count=count_parameters)
    Terms(trusted_server=True, clear_updates=True).check(mechanism_of(plan))


def test_the_name_of_a_model_steers_no_terminal() -> None:
    plan = make_tiny_plan()
    named = plan.model_copy(update={"model": plan.model.model_copy(update={"name": "a\x1b[2J\nerror: b\u202e"})})
    words = refusal(Terms(clear_updates=True, models=("cnn",)), named)
    assert words == "the plan trains a?[2J error: b?, these terms allow cnn"


def test_terms_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Terms().trusted_server = True


def test_a_file_of_terms_is_read(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    path.write_text('max_epsilon = 2\nmax_delta = 1e-6\ntrusted_server = true\nmodels = ["cnn"]\n')
    assert read_terms(path) == Terms(max_epsilon=2.0, max_delta=1e-6, trusted_server=True, models=("cnn",))
    path.write_text("clear_updates = true\nmin_survivors = 5\nmin_colluders = 1\nmalicious_server = true\n")
    found = Terms(clear_updates=True, min_survivors=5, min_colluders=1, malicious_server=True)
    assert read_terms(path) == found


def test_the_defaults_are_the_strict_ones() -> None:
    terms = Terms()
    assert not terms.trusted_server
    assert not terms.clear_updates
    assert terms.min_survivors is None
    assert terms.min_colluders == 0
    assert (terms.max_refused_runs_a_day, terms.max_plans_a_day) == (3, 10)


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
        "clear_updates = 2",
        'clear_updates = "sometimes"',
        "min_survivors = 1",
        "min_survivors = 2.5",
        "min_survivors = 3.0",
        "min_survivors = true",
        "min_colluders = 0.3",
        "min_colluders = 3.0",
        "min_colluders = true",
        "min_colluders = -1",
        "min_colluders = nan",
        'malicious_server = "both"',
        'models = "cnn"',
        "models = [1]",
        "maxepsilon = 1",
        "max_plans_a_day = 0",
        "max_refused_runs_a_day = 0",
        "max_plans_a_day = 2.0",
        "max_refused_runs_a_day = true",
        "min_round_epsilon = -1",
        "min_round_epsilon = nan",
        "hybrid_keys = 2",
        "a = " + "[" * 30_000,
        "# " + "a" * 70_000,
        "[terms]\nmax_epsilon = 1",
        "max_epsilon",
        "max_epsilon = 1\nmax_epsilon = 2",
        "= 1",
    ],
)
def test_an_unknown_key_or_value_of_terms_is_refused(tmp_path: Path, text: str) -> None:
    """The refusal has two lines."""
    path = tmp_path / "terms.toml"
    path.write_text(text)
    assert "are not valid" in fault(path)


def test_a_refused_value_is_named(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    path.write_text("max_epsilon = -1")
    assert "max_epsilon" in fault(path)


@pytest.mark.parametrize("more", [0o020, 0o002])
def test_a_file_that_others_can_change_is_refused(tmp_path: Path, more: int) -> None:
    path = tmp_path / "terms.toml"
    path.write_text("")
    path.chmod(0o600 | more)
    with pytest.raises(DataError, match="users other than its owner can change") as caught:
        read_terms(path)
    assert caught.value.hint.endswith(f"chmod go-w {path}")


def test_a_missing_file_is_refused_and_not_the_defaults(tmp_path: Path) -> None:
    """It is never read as the defaults."""
    assert "there are no terms" in fault(tmp_path / "none.toml")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot read the terms" in fault(tmp_path)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot read the terms" in fault(path)
