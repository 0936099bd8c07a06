"""The offers that the ClientApp refuses, as a server that means no good would send them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from bract.client.records import Records
from bract.client.run_history import HISTORY
from bract.client.terms import Terms
from bract.privacy import Plan
from bract.privacy.messages import OFFER, PARAMETERS, SECAGG
from bract.privacy.server_view import Code

Make = Callable[..., Plan]
Sample = Callable[..., Records]
Call = Callable[..., Any]
COUNT = 51


@pytest.fixture
def refused(said: Call) -> Callable[..., None]:
    """A function: the node answers the offer with this code alone, and neither trains nor keeps anything.

    Of an offer whose plan it accepts it keeps which plan the run has, and counts no round.
    """

    def check(member: Any, content: RecordDict, code: Code, accepted: Plan | None = None) -> None:
        assert said(member.answer(content)) is code
        assert not member.ran
        kept = (
            {}
            if accepted is None
            else {HISTORY: ConfigRecord({"rounds": 0, "last": 0, "run": "1", "plan": accepted.digest})}
        )
        assert dict(member.context.state) == kept

    return check


class TestARefusal:
    """Only a code goes out, whatever was wrong, and no training runs."""

    @pytest.mark.parametrize("missing", [OFFER, PARAMETERS])
    def test_of_an_offer_that_lacks_a_record(
        self, make: Make, node: Call, missing: str, offer: Call, refused: Call
    ) -> None:
        content = offer(make())
        del content[missing]
        refused(node(), content, Code.MALFORMED, make() if missing == PARAMETERS else None)

    def test_of_a_scale_where_the_clip_norm_does_not_adapt(
        self, make: Make, node: Call, offer: Call, refused: Call
    ) -> None:
        refused(node(), offer(make(), scale=2.0), Code.MALFORMED, make())

    def test_of_no_offer_at_all(self, node: Call, refused: Call) -> None:
        refused(node(), RecordDict(), Code.MALFORMED)

    @pytest.mark.parametrize("names", [[], ["a", "b"]])
    def test_of_none_or_two_vectors_of_parameters(
        self, make: Make, node: Call, names: list[str], offer: Call, packed: Call, refused: Call
    ) -> None:
        content = offer(make())
        content[PARAMETERS] = ArrayRecord({name: packed(np.zeros(COUNT)) for name in names})
        refused(node(), content, Code.MALFORMED, make())

    @pytest.mark.parametrize("number", [0, -1, "1", 1.0, b"1", [1]])
    def test_of_a_round_that_is_no_number_from_one(
        self, make: Make, node: Call, number: Any, offer: Call, refused: Call
    ) -> None:
        refused(node(), offer(make(), number), Code.MALFORMED)

    def test_of_a_round_that_is_true(self, make: Make, node: Call, offer: Call, refused: Call) -> None:
        refused(node(), offer(make(), True), Code.MALFORMED)

    def test_of_an_offer_with_a_field_more(self, make: Make, node: Call, offer: Call, refused: Call) -> None:
        refused(node(), offer(make(), clip_norm=5.0), Code.MALFORMED)

    @pytest.mark.parametrize("field", ["round", "plan"])
    def test_of_an_offer_with_a_field_less(
        self, make: Make, node: Call, field: str, offer: Call, refused: Call
    ) -> None:
        content = offer(make())
        del content.config_records[OFFER][field]
        refused(node(), content, Code.MALFORMED)

    @pytest.mark.parametrize(
        "changes",
        [
            {"dtype": "float64"},
            {"dtype": "int32"},
            {"stype": "numpy.ndarray"},
            {"shape": (COUNT, 1)},
            {"shape": (3, 17)},
            {"shape": ()},
            {"shape": (COUNT - 1,)},
            {"shape": (COUNT + 1,)},
            {"shape": (-COUNT,)},
            {"data": b""},
            {"data": b"\0" * (4 * COUNT - 1)},
        ],
    )
    def test_of_parameters_that_are_not_what_their_record_says(
        self, make: Make, node: Call, changes: dict[str, Any], offer: Call, packed: Call, vector: Call, refused: Call
    ) -> None:
        plan = make()
        refused(node(), offer(plan, array=packed(vector(plan), **changes)), Code.MALFORMED, plan)

    @pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
    def test_of_parameters_that_are_not_finite(
        self, make: Make, node: Call, poison: float, offer: Call, packed: Call, vector: Call, refused: Call
    ) -> None:
        parameters = vector(make()).copy()
        parameters[-1] = poison
        refused(node(), offer(make(), array=packed(parameters)), Code.MALFORMED, make())

    @pytest.mark.parametrize(
        ("terms", "tables"),
        [
            ({"max_epsilon": 7.0}, {}),
            ({"max_delta": 1e-5}, {}),
            ({"models": ("cnn",)}, {}),
            ({"clear_updates": False}, {}),
            ({}, {"privacy": {"noise": "central"}}),
            ({}, {"privacy": {"epsilon": 11.0}}),
        ],
    )
    def test_of_a_plan_over_the_owners_terms(
        self, make: Make, node: Call, terms: dict[str, Any], tables: dict[str, Any], offer: Call, refused: Call
    ) -> None:
        refused(node(terms=Terms(**({"clear_updates": True} | terms))), offer(make(**tables)), Code.REFUSED)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('unit = "record"', 'unit = "none"'),
            ('unit = "record"', 'unit = "client"'),
            ("[privacy]", "[privacy]\nclip = 5.0"),
            ("[privacy]", "[mechanism]\nname = 1\n\n[privacy]"),
            ("[privacy]", "trust = true\n\n[privacy]"),
            ("[privacy]", "[privacy"),
            ("epsilon = 8.0", "epsilon = inf"),
            ("epsilon = 8.0", "epsilon = nan"),
            ("epsilon = 8.0", "epsilon = 0.01"),
            ("clip_norm = 1.0", "clip_norm = inf"),
            ("clip_norm = 1.0", "clip_norm = 0"),
            ("sampling_rate = 0.5", "sampling_rate = 1.5"),
            ("noise_multiplier = 3.0", "noise_multiplier = 0.0"),
            ("noise_multiplier = 3.0", "noise_multiplier = 0.3"),
            ("noise_multiplier = 3.0", "noise_multiplier = -3.0"),
            ("rounds = 4", "rounds = 4000"),
            ("delta = 0.001", "delta = 0.5"),
            ("local_steps = 1", "local_steps = 100000"),
            ('protocol = "sum"', 'protocol = "none"'),
            ('protocol = "sum"', 'protocol = "secagg"'),
            ("[aggregation]", "[aggregation]\nbits = 8"),
            ("[aggregation]", "[aggregation]\nrange = 1e30"),
        ],
    )
    def test_of_a_plan_that_is_no_plan_of_a_deployment(
        self, make: Make, node: Call, old: str, new: str, offer: Call, refused: Call
    ) -> None:
        text = make().offered()
        assert old in text
        refused(node(terms=Terms(max_delta=0.9, clear_updates=True)), offer(text.replace(old, new)), Code.PLAN)

    @pytest.mark.parametrize("text", ["", "=", "\0", "x" * 100_000, "[data]\n" * 2])
    def test_of_a_plan_that_cannot_be_read(self, make: Make, node: Call, text: str, offer: Call, said: Call) -> None:
        code = said(node().answer(offer(text)))
        assert code in (Code.PLAN, Code.REFUSED)

    def test_of_a_plan_that_nests_too_deep_to_be_read(self, node: Call, offer: Call, said: Call) -> None:
        member = node()
        assert said(member.answer(offer("x = " + "[" * 100_000))) in (Code.PLAN, Code.FAILED)
        assert not member.ran

    def test_by_a_device_whose_records_have_another_shape(
        self, make: Make, node: Call, sample: Sample, offer: Call, refused: Call
    ) -> None:
        records = sample(4)
        other = Records(records.features.flatten(1), records.labels)
        refused(node(other), offer(make()), Code.DATA, make())

    @pytest.mark.parametrize("name", ["cohort", "keys", "cards", "x"])
    def test_of_words_on_secure_aggregation_where_the_plan_has_none(
        self, make: Make, node: Call, name: str, offer: Call, refused: Call
    ) -> None:
        content = offer(make())
        content[SECAGG] = ConfigRecord({name: b""})
        refused(node(), content, Code.MALFORMED, make())
