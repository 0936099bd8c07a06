"""Events as JSON, and hostile JSON."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bract.privacy import Composed, Event, Gaussian, PoissonSampled, Skellam, Unbounded
from bract.privacy.accounting.events import from_json, to_json

rates = st.floats(0, 1, exclude_min=True)
noises = st.floats(0, exclude_min=True, allow_infinity=False)
events = st.recursive(
    st.one_of(st.builds(Gaussian, noises), st.builds(Skellam, noises, noises), st.just(Unbounded())),
    lambda inner: st.one_of(
        st.builds(PoissonSampled, rates, inner), st.builds(Composed, inner, st.integers(1, 10**12))
    ),
    max_leaves=6,
)

numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_infinity=False))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
kinds = st.sampled_from(["gaussian", "poisson_sampled", "composed", "unbounded", "skellam"])
keys = st.sampled_from(["noise_multiplier", "variance", "sampling_rate", "event", "count"])
almost_events = st.recursive(
    anything, lambda inner: st.dictionaries(kinds, st.dictionaries(keys, inner, max_size=3), max_size=2), max_leaves=5
)


@given(events)
def test_json_reads_back_equal(event: Event) -> None:
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


@given(st.one_of(anything, almost_events))
@example({})
@example({"gaussian": {}})
@example({"gaussian": None})
@example({"gaussian": {"noise_multiplier": None}})
@example({"gaussian": {"noise_multiplier": 1.0}, "unbounded": {}})
@example([["gaussian", {"noise_multiplier": 1.0}]])
@example({"composed": {"count": 2, "event": {"composed": {"count": 2}}}})
def test_hostile_json_is_an_event_in_range_or_a_value_error(value: Any) -> None:
    try:
        event = from_json(value)
    except ValueError:
        return
    assert in_range(event)


def in_range(event: Event) -> bool:
    match event:
        case Gaussian(noise_multiplier):
            return 0 < noise_multiplier < math.inf
        case Skellam(noise_multiplier, variance):
            return 0 < noise_multiplier < math.inf and 0 < variance < math.inf
        case PoissonSampled(rate, inner):
            return 0 < rate <= 1 and in_range(inner)
        case Composed(inner, count):
            return isinstance(count, int) and count >= 1 and in_range(inner)
        case Unbounded():
            return True


GAUSSIAN = {"gaussian": {"noise_multiplier": 1.0}}


def skellam(noise_multiplier: Any = 1.0, variance: Any = 4.0) -> Any:
    return {"skellam": {"noise_multiplier": noise_multiplier, "variance": variance}}


def test_skellam_noise_is_written_with_both_its_numbers() -> None:
    """Its multiplier and its variance."""
    assert to_json(Skellam(1.5, 900.0)) == skellam(1.5, 900.0)
    assert from_json(skellam(1, 900)) == Skellam(1.0, 900.0)


@pytest.mark.parametrize(
    "value",
    [
        *({"gaussian": {"noise_multiplier": z}} for z in (0, 0.0, -0.0, -1.0, math.nan, "much", None, [1.0])),
        *({"poisson_sampled": {"sampling_rate": q, "event": GAUSSIAN}} for q in (0.0, -0.1, 1.0001, math.nan, None)),
        *({"composed": {"count": n, "event": GAUSSIAN}} for n in (0, -1, 0.5, math.nan, "many", None)),
        *(skellam(noise_multiplier=z) for z in (0, -1.0, math.nan, math.inf, "much", None, True)),
        *(skellam(variance=v) for v in (0, 0.0, -1.0, math.nan, math.inf, "much", None, [4.0], True)),
        {"skellam": {"noise_multiplier": 1.0}},
        {"skellam": {"variance": 4.0}},
        {"poisson_sampled": {"sampling_rate": 0.5}},
        {"poisson_sampled": {"sampling_rate": 0.5, "event": {"gaussian": {"noise_multiplier": 0.0}}}},
        {"composed": {"count": 3, "event": {}}},
        {"laplace": {"scale": 1.0}},
    ],
    ids=str,
)
def test_a_number_out_of_range_at_any_depth_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="not an accounting event"):
        from_json(value)


@pytest.mark.parametrize(
    "event", [Gaussian(1.0), Skellam(1.0, 4.0), PoissonSampled(0.5, Gaussian(1.0)), Composed(Gaussian(1.0), 2)]
)
def test_is_frozen_and_a_key_of_its_value(event: Event) -> None:
    with pytest.raises(FrozenInstanceError):
        event.extra = 1  # type: ignore[union-attr]
    assert {event: 1}[from_json(to_json(event))] == 1
