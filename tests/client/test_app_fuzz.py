"""The ClientApp under offers of which any part may be spoilt."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from devices import first_vector, holds_update, make_message, make_tiny_plan, node_context, random_records, said_code
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.terms import Terms
from bract.privacy.accept import accept_offer
from bract.privacy.messages import OFFER, PARAMETERS, RAW
from bract.privacy.server_view import ANSWER, UPDATE, Code

COUNT = 51


def valid(content: RecordDict, terms: Terms) -> bool:
    """Whether an offer is one that a device of these terms may answer with an update."""
    fields = dict(content.config_records.get(OFFER, ConfigRecord()))
    arrays = list(content.array_records.get(PARAMETERS, ArrayRecord()).values())
    if set(fields) != {"round", "plan"} or len(arrays) != 1:
        return False
    number, text, array = fields["round"], fields["plan"], arrays[0]
    if isinstance(number, bool) or not (isinstance(number, int) and number >= 1 and isinstance(text, str)):
        return False
    try:
        mechanism = accept_offer(text)
        terms.check(mechanism)
    except Exception:
        return False
    if number > mechanism.plan.cohort.rounds:
        return False
    right = (array.dtype, tuple(array.shape), array.stype, len(array.data)) == ("float32", (COUNT,), RAW, 4 * COUNT)
    return right and bool(np.isfinite(np.frombuffer(array.data, dtype="<f4")).all())


scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20), st.binary(max_size=20), st.booleans()
)


junk = st.one_of(scalars, st.lists(st.integers(-9, 9), max_size=3), st.lists(st.text(max_size=3), max_size=3))


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """The text with a few characters left out or put in; no digit is put in, so no count grows."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text) - 1))
        put = draw(st.sampled_from(["", *'=[]"#\n x.-_', *string.ascii_lowercase]))
        text = text[:at] + put + text[at + draw(st.integers(0, 1)) :]
    return text


PARTS = ("round", "plan", "extra", "array", "names", "records")
ROUNDS = 4
"""The rounds of the plan that is offered."""


numbers = junk.filter(lambda number: not isinstance(number, bool))  # round = true has a test of its own


@st.composite
def spoilt_arrays(draw: st.DrawFn, right: bytes) -> Array:
    cut = draw(st.integers(0, len(right)))
    cuts = st.binary(max_size=8).map(lambda put: right[:cut] + put + right[cut + 8 :])
    return Array(
        dtype=draw(st.sampled_from(["float32", "float32", "float64", "int64", ""])),
        shape=draw(st.one_of(st.just((COUNT,)), st.lists(st.integers(-2, 60), max_size=3).map(tuple))),
        stype=draw(st.sampled_from([RAW, RAW, "numpy.ndarray", ""])),
        data=draw(st.one_of(st.just(right), cuts)),
    )


@st.composite
def offers(draw: st.DrawFn, text: str, right: bytes) -> RecordDict:
    """An offer in which up to two parts are not what they should be, or only look so."""
    spoilt = draw(st.sets(st.sampled_from(PARTS), max_size=2))
    array = Array(dtype="float32", shape=(COUNT,), stype=RAW, data=right)
    if "array" in spoilt:
        array = draw(spoilt_arrays(right))
    fields: dict[str, Any] = {"round": draw(st.integers(1, ROUNDS)), "plan": text}
    if "round" in spoilt:
        fields["round"] = draw(st.integers(ROUNDS, ROUNDS + 1) | numbers)
    if "plan" in spoilt:
        fields["plan"] = draw(st.one_of(edited(text), edited(text), junk))
    if "extra" in spoilt:
        fields |= draw(st.dictionaries(st.text(max_size=8), junk, max_size=2))
    names = draw(st.lists(st.text(max_size=3), max_size=2)) if "names" in spoilt else [PARAMETERS]
    records = {OFFER: ConfigRecord(fields), PARAMETERS: ArrayRecord(dict.fromkeys(names, array))}
    if "records" in spoilt:
        others = st.sampled_from([ConfigRecord(), ArrayRecord(), MetricRecord({"a": 1}), *records.values()])
        records |= draw(st.dictionaries(st.sampled_from([OFFER, PARAMETERS, ANSWER, UPDATE]), others, max_size=2))
    return RecordDict(records)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_only_a_valid_offer_is_answered_with_an_update(data: st.DataObject) -> None:
    """Whatever is offered, the app answers."""
    plan, terms = make_tiny_plan(), Terms(clear_updates=True)
    assert plan.cohort.rounds == ROUNDS
    content = data.draw(offers(plan.offered(), first_vector(plan).astype("<f4").tobytes()))
    device = Device(random_records(3), terms)
    reply = make_app(lambda _: device)(make_message(content), node_context())
    event("valid" if valid(content, terms) else "not valid")
    if valid(content, terms):
        assert holds_update(reply)
        assert set(reply.content) == {ANSWER, UPDATE}
    else:
        assert said_code(reply) is not Code.OK
