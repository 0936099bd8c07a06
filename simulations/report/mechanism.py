"""The section of a run's report that describes its privacy mechanism."""

from __future__ import annotations

from collections.abc import Iterator

from ..study import Study, mechanism_for
from .run_figures import VIEWS


def mechanism(study: Study) -> Iterator[tuple[str, str]]:
    """Yield the rows, (name, value), of the table that describes the mechanism."""
    held = mechanism_for(study)
    p, steps, a, words = study.privacy, study.training.local_steps, study.aggregation, held.in_words
    yield (
        "Aggregation",
        f"secagg, {a.mode}, {a.key_exchange} keys" if study.secure else f"{a.protocol}, without masks",
    )
    yield "Ring", f"{held.grid.ring.bits} bits a coordinate, in steps of {held.grid.step:.3g}"
    if not study.protected:
        yield "Mechanism", words.place
        return
    yield "Noise is added by", words.place
    yield "Noise multiplier", f"{held.noise_multiplier:g} ({words.unit})"
    yield "Clip norm", f"{p.clip_norm:g} (the largest L2 norm that one {p.unit} can add to a sum)"
    yield from words.rows
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
    yield "Accounting", words.accounting
