"""The section of a run's report that describes its privacy mechanism."""

from __future__ import annotations

from collections.abc import Iterator

from ...privacy.accounting.accountant import GRIDS
from ...privacy.mechanisms.distributed import Distributed
from ...privacy.mechanisms.factorisation import relative_error
from ..study import Study, mechanism_for
from .run_figures import VIEWS


def count(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def mechanism(study: Study) -> Iterator[tuple[str, str]]:
    """Yield the rows, (name, value), of the table that describes the mechanism."""
    held = mechanism_for(study)
    p, steps, a = study.privacy, study.training.local_steps, study.aggregation
    yield (
        "Aggregation",
        f"secagg, {a.mode}, {a.key_exchange} keys" if study.secure else f"{a.protocol}, without masks",
    )
    yield "Ring", f"{held.ring.bits} bits a coordinate, in steps of {held.grid_step:.3g}"
    if not study.protected:
        yield "Mechanism", "none: no clipping, no noise, no accounting"
        return
    yield "Noise is added by", _PLACES[p.noise]
    yield "Noise multiplier", f"{held.noise_multiplier:g} ({_UNITS[p.noise == 'distributed']})"
    yield "Clip norm", f"{p.clip_norm:g} (the largest L2 norm that one {p.unit} can add to a sum)"
    if isinstance(held, Distributed):
        yield "Shares of the noise", _shares(study, held)
    if study.correlated:
        yield "Correlation of the noise", _correlation(study)
    if p.unit == "record":
        yield (
            "Sampling rate",
            f"{p.sampling_rate:g} (each step samples each record with this probability, independently)",
        )
        yield "Steps a round", f"{steps:,}"
    else:
        yield "Steps a round", f"{steps:,} of plain SGD on the device; their total change enters one noised sum"
    yield "Rounds of one client, at most", f"{study.participations:,}"
    yield "Noised sums charged to one client, at most", f"{study.participations * study.sums:,}"
    yield "Budget", f"epsilon {p.epsilon:g} at delta {p.delta:g}, {VIEWS[held.budget_view]}"
    yield "Neighbouring data", f"differ by one {p.unit}, added or removed"
    yield "Accounting", _ACCOUNTANTS["rdp" if p.noise == "distributed" else "pld"]


_UNITS = (
    "standard deviation in units of the clip norm",
    "least standard deviation in units of the clip norm and its rounding",
)
"""The unit of the noise multiplier if one party adds all noise, and if the devices share it."""

_ACCOUNTANTS = {
    "pld": f"privacy loss distributions (PLD), discretized at {GRIDS[0]:g} or finer and rounded so that epsilon can"
    " only be overstated; the Rényi bound (RDP) serves as a check that no epsilon may exceed",
    "rdp": "the Rényi bound (RDP) of Skellam noise on randomly rounded sums, for the noise that arrived",
}


def _correlation(study: Study) -> str:
    left = relative_error(study.cohort.rounds, study.bands, study.server.momentum)
    return (
        f"{study.bands} bands: each round subtracts part of the noise of the previous"
        f" {count(study.bands - 1, 'round')}. A client sits out that many rounds after each of its own. The model"
        f" carries {left:.0%} of the noise that independent noise would leave in it (root mean square over all"
        " rounds, predicted for a run without a crash)"
    )


def _shares(study: Study, place: Distributed) -> str:
    return (
        f"{place.noise_shares:,} suffice: a sum has at least {count(study.least_survivors, 'device')}, and at most"
        f" {study.colluders:,} may reveal their shares to the server. A share has a standard deviation of"
        f" {(place.share_variance + sum(place.layers)) ** 0.5:,.1f} steps{_layers(place)}"
    )


def _layers(place: Distributed) -> str:
    if not place.layers:
        return ""
    layers = count(len(place.layers), "layer")
    return f" and contains {layers} for dropouts; layers that no dropout needs are removed"


_PLACES = {
    "central": "central: the server adds the noise to the sum",
    "distributed": "distributed: each device adds a Skellam share of the noise before the secure sum",
    "local": "local: each device adds noise to its own update",
}
