"""The part of a run's report that says by what mechanism its numbers come about."""

from __future__ import annotations

from collections.abc import Iterator

from ...privacy.accounting.accountant import GRIDS
from ...privacy.mechanisms.banded import relative_error
from ...privacy.mechanisms.distributed import Distributed
from ..study import Study
from .run_figures import VIEWS


def count(number: int, noun: str) -> str:
    """Return a number with its noun, which has an s unless there is one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def mechanism(study: Study) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table that says how the run's claim comes about."""
    p, steps, a = study.privacy, study.training.local_steps, study.aggregation
    yield (
        "Aggregation",
        f"secagg, {a.mode}, {a.key_exchange} keys" if study.secure else f"{a.protocol}, without masks",
    )
    yield "Ring", f"{study.ring.bits} bits a coordinate, in steps of {study.grid_step:.3g}"
    if not study.protected:
        yield "Mechanism", "none: no clipping, no noise, no accounting"
        return
    yield "Place of noise", _PLACES[p.noise]
    yield "Noise multiplier", f"{study.noise_multiplier:g} ({_UNITS[p.noise == 'distributed']})"
    yield "Clip norm", f"{p.clip_norm:g} (the most that one {p.unit} adds to a sum, in L2 norm)"
    if isinstance(study.place, Distributed):
        yield "Shares of the noise", _shares(study, study.place)
    if study.correlated:
        yield "Correlation of the noise", _correlation(study)
    if p.unit == "record":
        yield "Sampling rate", f"{p.sampling_rate:g} (each record is in a step with this probability, independently)"
        yield "Steps a round", f"{steps:,}"
    else:
        yield "Steps a round", f"{steps:,} of plain SGD on the device; the change that they make is one noised sum"
    yield "Most rounds any one client takes part in", f"{study.participations:,}"
    yield "Most noised sums any one client is charged for", f"{study.participations * study.sums:,}"
    yield "Budget", f"epsilon {p.epsilon:g} at delta {p.delta:g}, {VIEWS[study.budget.view]}"
    yield "Neighbouring data", f"differ by one {p.unit}, added or removed"
    yield "Accounting", _ACCOUNTANTS["rdp" if p.noise == "distributed" else "pld"]


_UNITS = (
    "standard deviation in units of the clip norm",
    "least standard deviation in units of the clip norm and its rounding",
)
"""What a noise multiplier counts where one adds the noise, and where devices share it."""

_ACCOUNTANTS = {
    "pld": f"privacy loss distributions (PLD) on a grid of {GRIDS[0]:g}, a finer one where that is too coarse,"
    " rounded so that epsilon can only be overstated; no figure may exceed the Rényi bound (RDP), which is a check",
    "rdp": "the Rényi bound (RDP) of Skellam noise on randomly rounded sums, for the noise that has arrived",
}


def _correlation(study: Study) -> str:
    left = relative_error(study.cohort.rounds, study.bands, study.server.momentum)
    return (
        f"{study.bands} bands: each round takes back part of the noise of the {study.bands - 1} before, rounds that a"
        f" client sits out after its own; the model carries {left:.0%} of the noise that would be in it if it were"
        " independent (root mean square over all rounds, predicted for a run without a crash)"
    )


def _shares(study: Study, place: Distributed) -> str:
    return (
        f"{place.noise_shares:,} suffice: at least {count(study.least_survivors, 'device')} in a sum, of which at"
        f" most {study.colluders:,} may tell the server theirs; each of standard deviation"
        f" {(place.share_variance + sum(place.layers)) ** 0.5:,.1f} steps{_layers(place)}"
    )


def _layers(place: Distributed) -> str:
    if not place.layers:
        return ""
    return f"; of {count(len(place.layers), 'layer')} in it those come off again that no dropout made needed"


_PLACES = {
    "central": "central: the server noises the sum",
    "distributed": "distributed: each device brings a Skellam share of the noise into the secure sum",
    "local": "local: each device noises its own",
}
