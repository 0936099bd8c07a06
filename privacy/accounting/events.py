"""Privacy events, as dp_accounting's DpEvent: frozen records of what ran; the accountant computes their cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

MOST_REPETITIONS = 10**12
"""The largest count of a composed event."""


@dataclass(frozen=True)
class Gaussian:
    """Gaussian noise of `noise_multiplier` times the sensitivity was added once to a sum."""

    noise_multiplier: float


@dataclass(frozen=True)
class Skellam:
    """Skellam noise of `variance` was added once to each coordinate of a randomly rounded integer sum.

    `noise_multiplier` is the noise's standard deviation over the sensitivity. The sensitivity is the root mean
    square, over the rounding, of the L2 norm by which one unit moves the sum: sqrt(variance) / noise_multiplier
    steps.
    """

    noise_multiplier: float
    variance: float


@dataclass(frozen=True)
class PoissonSampled:
    """The event ran on a sample that held each unit independently with probability `sampling_rate`."""

    sampling_rate: float
    event: Event


@dataclass(frozen=True)
class Composed:
    """The event happened `count` times, adaptively, each with fresh randomness."""

    event: Event
    count: int


@dataclass(frozen=True)
class Unbounded:
    """A value without noise was seen: epsilon is infinite."""


Event = Gaussian | Skellam | PoissonSampled | Composed | Unbounded


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as plain values.

    >>> to_json(PoissonSampled(0.5, Gaussian(2.0)))
    {'poisson_sampled': {'sampling_rate': 0.5, 'event': {'gaussian': {'noise_multiplier': 2.0}}}}
    """
    match event:
        case Gaussian(noise_multiplier):
            return {"gaussian": {"noise_multiplier": noise_multiplier}}
        case Skellam(noise_multiplier, variance):
            return {"skellam": {"noise_multiplier": noise_multiplier, "variance": variance}}
        case PoissonSampled(rate, inner):
            return {"poisson_sampled": {"sampling_rate": rate, "event": to_json(inner)}}
        case Composed(inner, count):
            return {"composed": {"count": count, "event": to_json(inner)}}
        case Unbounded():
            return {"unbounded": {}}


def from_json(value: Any) -> Event:
    """Return the event that `to_json` wrote.

    Raises:
        ValueError: it is not such an event, or a number in it is out of range.
    """
    try:
        [(kind, fields)] = cast(dict[str, dict[str, Any]], value).items()
        event = _parse(kind, fields)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as fault:
        raise ValueError("not an accounting event") from fault
    return event


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    return value


def _parse(kind: str, fields: dict[str, Any]) -> Event:
    match kind:
        case "gaussian" if 0 < _number(fields["noise_multiplier"]) < math.inf:
            return Gaussian(float(fields["noise_multiplier"]))
        case "skellam" if all(0 < _number(fields[name]) < math.inf for name in ("noise_multiplier", "variance")):
            return Skellam(float(fields["noise_multiplier"]), float(fields["variance"]))
        case "poisson_sampled" if 0 < _number(fields["sampling_rate"]) <= 1:
            return PoissonSampled(float(fields["sampling_rate"]), from_json(fields["event"]))
        case "composed" if isinstance(fields["count"], int) and 1 <= _number(fields["count"]) <= MOST_REPETITIONS:
            return Composed(from_json(fields["event"]), fields["count"])
        case "unbounded" if fields == {}:
            return Unbounded()
        case _:
            raise ValueError(kind)


def as_gaussian(event: Event) -> Event:
    """Return the event with Skellam noise replaced by Gaussian noise of the same noise multiplier."""
    match event:
        case Skellam(noise_multiplier, _):
            return Gaussian(noise_multiplier)
        case PoissonSampled(rate, inner):
            return PoissonSampled(rate, as_gaussian(inner))
        case Composed(inner, count):
            return Composed(as_gaussian(inner), count)
        case _:
            return event
