"""The offers that the ClientApp refuses, as a server that means no good would send them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from devices import first_vector, make_node, make_offer, make_tiny_plan, packed_array, random_records, said_code
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from bract.client.records import Records
from bract.client.run_history import HISTORY
from bract.client.terms import Terms
from bract.privacy import Plan
from bract.privacy.messages import OFFER, PARAMETERS, SECAGG
from bract.privacy.server_view import Code

Call = Callable[..., Any]
COUNT = 51


@pytest.fixture
def refused() -> Callable[..., None]:
    """A function: the node answers the offer with this code alone, and neither trains nor keeps anything.

    Of an offer whose plan it accepts it keeps which plan the run has, and counts no round.
    """

    def check(member: Any, content: RecordDict, code: Code, accepted: Plan | None = None) -> None:
        assert said_code(member.answer(content)) is code
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
    def test_of_an_offer_that_lacks_a_record(self, missing: str, refused: Call) -> None:
        content = make_offer(make_tiny_plan())
        del content[missing]
        refused(make_node(), content, Code.MALFORMED, make_tiny_plan() if missing == PARAMETERS else None)

    def test_of_a_scale_where_the_clip_norm_does_not_adapt(self, refused: Call) -> None:
        refused(make_node(), make_offer(make_tiny_plan(), scale=2.0), Code.MALFORMED, make_tiny_plan())

    def test_of_no_offer_at_all(self, refused: Call) -> None:
        refused(make_node(), RecordDict(), Code.MALFORMED)

    @pytest.mark.parametrize("names", [[], ["a", "b"]])
    def test_of_none_or_two_vectors_of_parameters(self, names: list[str], refused: Call) -> None:
        content = make_offer(make_tiny_plan())
        content[PARAMETERS] = ArrayRecord({name: packed_array(np.zeros(COUNT)) for name in names})
        refused(make_node(), content, Code.MALFORMED, make_tiny_plan())

    @pytest.mark.parametrize("number", [0, -1, "1", 1.0, b"1", [1]])
    def test_of_a_round_that_is_no_number_from_one(self, number: Any, refused: Call) -> None:
        refused(make_node(), make_offer(make_tiny_plan(), number), Code.MALFORMED)

    def test_of_a_round_that_is_true(self, refused: Call) -> None:
        refused(make_node(), make_offer(make_tiny_plan(), True), Code.MALFORMED)

    def test_of_an_offer_with_a_field_more(self, refused: Call) -> None:
        refused(make_node(), make_offer(make_tiny_plan(), clip_norm=5.0), Code.MALFORMED)

    @pytest.mark.parametrize("field", ["round", "plan"])
    def test_of_an_offer_with_a_field_less(self, field: str, refused: Call) -> None:
        content = make_offer(make_tiny_plan())
        del content.config_records[OFFER][field]
        refused(make_node(), content, Code.MALFORMED)

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
    def test_of_parameters_that_are_not_what_their_record_says(self, changes: dict[str, Any], refused: Call) -> None:
        plan = make_tiny_plan()
        refused(
            make_node(), make_offer(plan, array=packed_array(first_vector(plan), **changes)), Code.MALFORMED, plan
        )

    @pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
    def test_of_parameters_that_are_not_finite(self, poison: float, refused: Call) -> None:
        parameters = first_vector(make_tiny_plan()).copy()
        parameters[-1] = poison
        refused(
            make_node(),
            make_offer(make_tiny_plan(), array=packed_array(parameters)),
            Code.MALFORMED,
            make_tiny_plan(),
        )

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
        self, terms: dict[str, Any], tables: dict[str, Any], refused: Call
    ) -> None:
        refused(
            make_node(terms=Terms(**({"clear_updates": True} | terms))),
            make_offer(make_tiny_plan(**tables)),
            Code.REFUSED,
        )

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
    def test_of_a_plan_that_is_no_plan_of_a_deployment(self, old: str, new: str, refused: Call) -> None:
        text = make_tiny_plan().offered()
        assert old in text
        refused(
            make_node(terms=Terms(max_delta=0.9, clear_updates=True)), make_offer(text.replace(old, new)), Code.PLAN
        )

    @pytest.mark.parametrize("text", ["", "=", "\0", "x" * 100_000, "[data]\n" * 2])
    def test_of_a_plan_that_cannot_be_read(self, text: str) -> None:
        code = said_code(make_node().answer(make_offer(text)))
        assert code in (Code.PLAN, Code.REFUSED)

    def test_of_a_plan_that_nests_too_deep_to_be_read(self) -> None:
        member = make_node()
        assert said_code(member.answer(make_offer("x = " + "[" * 100_000))) in (Code.PLAN, Code.FAILED)
        assert not member.ran

    def test_by_a_device_whose_records_have_another_shape(self, refused: Call) -> None:
        records = random_records(4)
        other = Records(records.features.flatten(1), records.labels)
        refused(make_node(other), make_offer(make_tiny_plan()), Code.DATA, make_tiny_plan())

    @pytest.mark.parametrize("name", ["cohort", "keys", "cards", "x"])
    def test_of_words_on_secure_aggregation_where_the_plan_has_none(self, name: str, refused: Call) -> None:
        content = make_offer(make_tiny_plan())
        content[SECAGG] = ConfigRecord({name: b""})
        refused(make_node(), content, Code.MALFORMED, make_tiny_plan())
