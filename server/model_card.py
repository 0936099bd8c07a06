"""The card of a trained model: what it is for, and what is guaranteed to whom, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module

from ..models import objective_of
from ..privacy import Plan
from .evaluation.metrics import FIGURES

MODEL_CARD_FILE = "model.md"

VIEWS = {
    "released": "whoever sees only the released models",
    "server": "the server",
}

TRUST = {
    "central": (
        "The server is trusted: it adds the noise to the clients' sums, which it sees without noise. The guarantee "
        "does not hold against it."
    ),
    "distributed": (
        "The server is not trusted: each client adds a share of the noise, and secure aggregation shows the server "
        "only sums. The guarantee against it allows for {colluders} colluding devices of a round."
    ),
    "local": "Nobody is trusted: each client adds its noise before anything leaves it.",
}
"""For each place of noise, who sees what."""


def make_card(
    plan: Plan,
    rounds: int,
    epsilon: Mapping[str, float | None],
    figures: Mapping[str, float],
    cautions: Iterable[str] = (),
    guarantee: str | None = None,
) -> str:
    """Return the card as Markdown. It names no path and no machine.

    `epsilon` is what was spent by view, None where there is no bound. `figures` are those of the last test.
    `guarantee` replaces the words of the guarantee, for a run that makes another claim than its plan; `cautions` are
    added to what the guarantee does not cover.
    """
    paragraphs = [
        f"# {plan.model.name} on {plan.data.name}",
        _about(plan, rounds),
        "## What is guaranteed",
        guarantee or _guarantee(plan, epsilon),
        "## What is not",
        "\n".join(f"- {line}" for line in (*cautions, *_limits(plan))),
        "## What it takes and gives",
        "\n".join(f"- {line}" for line in _use(plan)),
        "## Quality",
        "\n".join(_quality(figures)),
        "## Made by",
        f"bract {_version()}, {datetime.now(UTC):%Y-%m-%d}, plan `{plan.digest}`.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _about(plan: Plan, rounds: int) -> str:
    return (
        f"The network `{plan.model.name}`, trained by {plan.data.clients:,} clients over {rounds:,} of "
        f"{plan.cohort.rounds:,} rounds.{_start(plan)}"
    )


def _start(plan: Plan) -> str:
    """Return in words what the network started from, and what of it is not trained; nothing for a random start."""
    m = plan.model
    if m.start is None:
        return ""
    parts = [f" It started from the weights with SHA-256 `{m.weights_digest}`."]
    if m.fresh:
        parts.append(f" At random started {', '.join(f'`{pattern}`' for pattern in m.fresh)}.")
    if m.frozen:
        parts.append(f" Not trained is {', '.join(f'`{pattern}`' for pattern in m.frozen)}.")
    if m.adapters:
        parts.append(f" Frozen layers have adapters of rank {m.adapters}.")
    return "".join(parts)


def _guarantee(plan: Plan, epsilon: Mapping[str, float | None]) -> str:
    unit, delta = plan.privacy.unit, plan.privacy.delta
    whole = ", with all its records," if unit == "client" else ""
    bounds = "\n".join(
        f"- to {who}: " + ("no bound" if (value := epsilon.get(view)) is None else f"epsilon {value:.3f}")
        for view, who in VIEWS.items()
    )
    trust = TRUST[plan.privacy.noise].format(colluders=plan.colluders)
    return (
        f"(epsilon, {delta:g})-differential privacy for each {unit}: adding or removing any one {unit}{whole} "
        "changes the probability of what is seen by a factor of at most e^epsilon, and by at most "
        f"{delta:g} more.\n\n{bounds}\n\n{trust}"
    )


def _limits(plan: Plan) -> Iterator[str]:
    if plan.privacy.unit == "record":
        yield "A person with several records: with k of them, up to k times the epsilon, at a larger delta."
    if not plan.secure:
        yield "Each client's own update is seen by the server: the plan sums updates without masks."
    elif not plan.malicious:
        yield "A server that does not follow the protocol: the plan's mode is semi-honest."
    if plan.model.start is not None:
        yield "The records that the weights it started from were made of."
    yield "Other trainings on the same data, a search for settings among them: their epsilons add up."
    yield "What is true of people in general, which a model may reveal of a person whose data it never saw."


def _use(plan: Plan) -> Iterator[str]:
    learns = objective_of(plan.model.name, plan.data.shape)
    yield f"records: {learns.records}, of shape {list(plan.data.shape)}"
    yield f"task: {learns.name}"
    if learns.name in ("classification", "next token"):
        yield f"classes: {plan.data.classes:,}"
    yield "predict with `bract predict RUN FILE`, or `bract.load(folder).predict(x)` in Python"


def _quality(figures: Mapping[str, float]) -> Iterator[str]:
    if not figures:
        yield "Not measured."
        return
    yield "On test records that no client holds, which the guarantee does not cover:\n"
    for key, value in figures.items():
        yield f"- {FIGURES[key].name}: {FIGURES[key].show(value)}"


def _version() -> str:
    return import_module("bract").__version__
