"""The report of a run: one HTML file with the training, its privacy cost, and what the guarantee covers."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ...privacy.budget import View
from ...privacy.mechanisms.base import count_of
from ...privacy.storage import replace_file
from ...server.evaluation.metrics import Score
from ...server.training import Outcome
from ..study import Study, mechanism_for
from ..unprotected import guarantee
from .evaluation import made, sections
from .mechanism import mechanism
from .page import Html, element, page, rows, section
from .quality import quality, score
from .run_figures import VIEWS, figures
from .samples import samples

if TYPE_CHECKING:
    from ..trained.evaluate import Evaluation

PRIVATE = ("folder", "modules")
"""The keys of a plan that hold paths on this machine; the report hides their values."""

VAST = 12.0
"""The epsilon above which the report does not write out e^epsilon, because the bound is meaningless."""


@dataclass(frozen=True)
class Baseline:
    """The run of the same plan without noise: the last score; None if it diverged or was not measured.

    `clips` says whether it clips as the plan does.
    """

    score: Score | None
    clips: bool = True


def write_report(
    path: Path,
    study: Study,
    outcome: Outcome,
    records: int,
    evaluation: Evaluation | None = None,
    baseline: Baseline | None = None,
) -> None:
    """Write the report of a run over `records` training records to `path`.

    Two reports of the same run have the same bytes if they are written on the same day. `evaluation` is of the test
    records, `baseline` of the plan without privacy.

    Raises:
        StorageError: the file cannot be written; an old report stays intact.
    """
    epsilon: dict[View, float | None] = {view: outcome.epsilon[view] for view in get_args(View)}
    title = f"{study.model.name} on {study.data.name}"
    parts = [
        element("header", *_header(title, study, outcome, records)),
        _headline(study, outcome, epsilon),
        section("What is guaranteed", *_guarantee(study, epsilon["released"])),
        section("What is not covered", element("ul", *_limits(study))),
        section("Progress of the training", *figures(outcome.records, mechanism_for(study).budget, epsilon)),
        *(section("Quality", _table(facts)) for facts in [[*quality(outcome), *_compared(baseline)]] if facts),
        *(sections(evaluation) if evaluation else ()),
        *samples(study, outcome),
        section("Privacy mechanism", _table(mechanism(study))),
        section("Totals", _table(_totals(study, outcome, records))),
        section("The plan", element("p", _ABOUT_PLAN, class_="note"), _plan(study)),
        section(
            "The ledger of this run", element("p", _ABOUT_LEDGER, class_="note"), _table(_identity(study, outcome))
        ),
    ]
    replace_file(path, page(f"Training report: {title}", parts).encode("utf-8", "backslashreplace"))


def _compared(baseline: Baseline | None) -> list[tuple[str, str]]:
    """Return the score of the same plan without privacy, if it was run."""
    if baseline is None:
        return []
    score = baseline.score
    name = "Without privacy" if score is None else f"{score.figure.title} without privacy"
    same = "the same plan without noise" if baseline.clips else "the same plan without clip and noise"
    return [(f"{name}: {same}", "it diverged" if score is None else str(score))]


def _header(title: str, study: Study, outcome: Outcome, records: int) -> Iterator[Html]:
    done = f"{outcome.state.round:,} of {count_of(study.cohort.rounds, 'round')}"
    yield element("p", "Training report", class_="kind")
    yield element("h1", title)
    size = f"{count_of(study.data.clients, 'client')} with {count_of(records, 'training record')}"
    yield element("p", f"{done} over {size}, simulated on one machine, {made()}.", class_="lead")
    if outcome.stopped:
        yield _notice(
            f"Stopped after {done}:", f"{outcome.stopped.what}. What to do: {outcome.stopped.hint}. {_LATER}"
        )
    if not study.protected:
        yield _notice(
            "Nothing is protected:", "the plan says privacy.unit = none. Use this run only to compare with."
        )
    elif study.simulation.seed is not None:
        yield _notice("For study, not for release:", "the run is seeded, so its noise is no secret.")


_LATER = "Quality is from the last finished round; epsilon is from the ledger, which also counts unfinished rounds."


def _notice(start: str, text: str) -> Html:
    return element("p", element("strong", start), f" {text}", class_="notice", role="note")


def _headline(study: Study, outcome: Outcome, epsilon: Mapping[View, float | None]) -> Html:
    name, value = score(outcome)
    facts = [
        (f"{name} on test records that no client holds", value),
        *((f"Epsilon {VIEWS[view]}", _in_words(study, epsilon[view])) for view in VIEWS),
        ("Delta, the probability left outside that bound", f"{study.privacy.delta:g}" if study.protected else "none"),
        ("Unit, what the bound protects", f"one {study.privacy.unit}" if study.protected else "none"),
    ]
    cells = (element("div", element("dt", name), _shown(value)) for name, value in facts)
    return element("dl", *cells, class_="headline")


def _shown(value: str) -> Html:
    """Return a value of the headline: in large type if it is a number."""
    return element("dd", value, class_="words" if value.startswith("no") else "figure")


def _in_words(study: Study, epsilon: float | None) -> str:
    if epsilon is not None:
        return f"{epsilon:.3f}"
    return "none: the server is trusted" if study.protected else "none: nothing is protected"


def _guarantee(study: Study, epsilon: float | None) -> Iterator[Html]:
    if epsilon is None:
        yield element("p", guarantee(study))
        return
    if epsilon == 0:
        yield element(
            "p", "No round was finished, so no trained model was released. For the rounds that were planned:"
        )
    if study.simulation.seed is not None:
        yield element("p", "This run is seeded. Run without a seed, the same plan guarantees:")
    unit, delta = study.privacy.unit, study.privacy.delta
    whole, trust, seen, scope = _WHOLE[unit], *_TRUST[study.privacy.noise]
    epsilon = round(epsilon or study.privacy.epsilon, 3)
    yield element(
        "p",
        element("strong", f"Each single {unit} is protected."),
        f" Adding any one {unit}{whole} to the training data, or removing it, changes the probability of whatever"
        f" {seen} show by a factor of at most ",
        *_factor(epsilon),
        f", and by at most {delta:g} more. That is ({epsilon:.3f}, {delta:g})-differential privacy.",
        f" {_odds(epsilon, unit)}",
    )
    seeing = _DATA_OR_NONE if unit == "client" and study.privacy.noise != "central" else ""
    yield element("p", element("strong", trust), f" {scope.format(colluders=_colluders(study))}{seeing}")
    yield element("p", _ABOUT_NUMBERS.format(clipped=_CLIPPED[unit]))


def _colluders(study: Study) -> str:
    """Return a phrase for the number of colluding devices that the bound tolerates."""
    if not study.colluders:
        return "with no device on its side"
    return f"even with {count_of(study.colluders, 'device')} of a round on its side"


_WHOLE = {"record": "", "client": ", with all its records,"}
_CLIPPED = {"record": "float32 gradients are", "client": "a client's change is"}
"""For each unit: what it includes, and what is clipped."""

_TRUST = {
    "central": (
        "The server is trusted.",
        "the released models",
        "The bound holds against everyone who sees only the released models of all rounds. It does not hold against"
        " the server: the server receives the clients' sums without noise, and adds the noise itself.",
    ),
    "distributed": (
        "The server does not have to be trusted.",
        "the released models",
        "Against the server, {colluders}, the bound is the other epsilon above: the sums that the server receives"
        " contain the devices' noise, and it sees nothing else of their updates.",
    ),
    "local": (
        "Nobody has to be trusted.",
        "the devices' updates and the released models",
        "The bound holds against everyone, the server included: a device adds its noise before anything leaves it.",
    ),
}
"""For each noise mechanism: who is trusted, what the bound covers, and the adversaries that it holds against."""

_DATA_OR_NONE = (
    " The server sees who takes part. The bound hides whether a participating device contributes the client's data"
    " or no data."
)


def _factor(epsilon: float) -> Iterator[str]:
    """Yield e^epsilon as a formula and, rounded up, as a number."""
    yield element("span", "e", element("sup", f"{epsilon:.3f}"))
    if epsilon <= VAST:
        factor = math.exp(epsilon)
        yield f" = {math.ceil(factor):,}" if factor > 100 else f" = {math.ceil(100 * factor) / 100:g}"


def _odds(epsilon: float, unit: str) -> str:
    """Return the meaning of the bound for an adversary who infers membership, without delta."""
    if epsilon > VAST:
        return "A bound as loose as this one promises next to nothing in the worst case."
    sure = math.ceil(1e4 / (1 + math.exp(-epsilon))) / 1e4
    return (
        f"Delta aside, someone who knows every other {unit} and thinks it as likely as not that this one was used can"
        f" become at most {sure:.2%} sure of it."
    )


_ABOUT_NUMBERS = (
    "A client is charged for every round in which it takes part; the epsilons are for the client with the highest"
    " charge. They account for rounding: {clipped} clipped 1/1024 below the norm that the noise is scaled to, and"
    " sums and noise are integers on a grid, so no lower digits can reveal a value. This was a simulation, and"
    " whoever ran it held all records; the epsilons describe what the same plan reveals in a deployment."
)


def _limits(study: Study) -> Iterator[Html]:
    """Yield the list items of what the guarantee does not cover."""
    unit, seed = study.privacy.unit, study.simulation.seed
    items: list[tuple[str, str]] = (
        [] if study.secure else [_NO_MASKS if study.aggregation.protocol == "secagg" else _CLEAR_UPDATES]
    )
    if not study.protected:
        items.append(("All records.", "Nothing limits what the released models, or the server's view, reveal."))
    if study.protected and seed is not None:
        text = f"Whoever knows the seed, {seed}, can recompute and subtract the noise: do not release its models."
        items.append(("This very run, because it is seeded.", text))
    if study.protected and study.privacy.noise == "central":
        items.append(("What the server sees.", "The server is trusted with sums without noise."))
    if study.protected and study.privacy.noise == "distributed":
        most = count_of(study.colluders, "device")
        text = f"With more than {most} of a round on its side, the server knows more of the noise than assumed."
        items.append(("More colluders than assumed.", text))
        items += [] if study.malicious else [_HONEST_SERVER]
    if study.protected and study.large_delta:
        items.append((_LARGE_DELTA[0].format(unit=unit), _LARGE_DELTA[1].format(unit=unit)))
    if study.protected and study.model.start is not None:
        items.append(("The records behind the start.", "The weights that it started from may give them away."))
    if study.protected:
        items += [(heading.format(unit=unit), text.format(unit=unit)) for heading, text in _UNCOVERED]
    yield from (element("li", element("strong", name), f" {text}") for name, text in (*items, *_NEVER_COVERED))


_CLEAR_UPDATES = ("Each client's own update.", "The server sees it: this plan sums updates without masks.")
_NO_MASKS = (
    "Each client's own update.",
    "This simulation omitted the masks of secure aggregation to save time; a deployment uses them.",
)
_LARGE_DELTA = (
    "One {unit} out of all of them, as delta is so large.",
    "Delta is 1/n or more for n {unit}s: publishing one random {unit} in full would satisfy this bound."
    " The plan allows such a delta.",
)
_HONEST_SERVER = (
    "A server that breaks the protocol.",
    "The plan's aggregation.mode is semi-honest; the mode malicious-server also covers such a server.",
)
_UNCOVERED = (
    (
        "A person with several {unit}s.",
        "The unit is one {unit}. Someone with k of them can lose up to k times the epsilon, at a larger delta.",
    ),
    (
        "The search for this plan.",
        "Trying other hyper-parameters on the same data, or training on the data again, costs privacy that is not"
        " counted here: the epsilons of all runs add up.",
    ),
    (
        "The figures on this page.",
        "The numbers of clients and records are exact, and quality is measured on test records, which the bound does"
        " not cover.",
    ),
    (
        "What is true of people in general.",
        "A model may reveal facts about a person that it would also have learnt without that person's data.",
    ),
)
_NEVER_COVERED = (
    ("Who took part, and when.", "The server sees which clients answer in which round, and how fast."),
    (
        "Poisoned inputs.",
        "Privacy limits what leaks out, not what goes in: false records or false updates can spoil the model.",
    ),
)


def _totals(study: Study, outcome: Outcome, records: int) -> Iterator[tuple[str, str]]:
    codes = sum((Counter(dict(record.codes)) for record in outcome.records), Counter[str]())
    chosen, survived = (sum(getattr(r, name) for r in outcome.records) for name in ("cohort", "survivors"))
    yield "Rounds", f"{outcome.state.round:,} of {study.cohort.rounds:,}"
    yield "Clients", f"{study.data.clients:,}, {study.cohort.size:,} planned for a round"
    yield "Training records", f"{records:,}"
    yield "Time", f"{outcome.state.seconds:,.1f} seconds"
    yield "Updates in a sum", f"{survived:,}"
    yield "Dropouts", f"{chosen - survived:,}"
    yield "Answers by code", ", ".join(f"{code}: {codes[code]:,}" for code in sorted(codes)) or "none"
    yield "Without an answer", f"{chosen - codes.total():,}"


_ABOUT_PLAN = "Every table and key, with the value that the run used."


def _plan(study: Study) -> Html:
    """Return the plan as an HTML table with one group of rows for each TOML table."""
    tables = study.model_dump(mode="json").items()
    return element("table", *(element("tbody", _group(name), rows(_values(table))) for name, table in tables))


def _group(name: str) -> Html:
    return element("tr", element("th", f"[{name}]", scope="rowgroup", colspan="2"))


def _values(table: Mapping[str, object]) -> Iterator[tuple[str, Html]]:
    for key, value in table.items():
        shown = element("code", json.dumps(value, ensure_ascii=False))
        yield key, Html("not set") if value is None else Html("not shown") if key in PRIVATE else shown


_ABOUT_LEDGER = (
    "The first line of ledger.jsonl contains this plan digest (a shared ledger has it in each release), and the"
    " line of the last finished round has this hash. The digest covers every table of the plan except [simulation]."
)


def _identity(study: Study, outcome: Outcome) -> Iterator[tuple[str, Html]]:
    yield "Plan digest", element("code", study.digest)
    yield "Ledger head", element("code", outcome.state.ledger_head)


def _table(pairs: Iterable[tuple[str, str]]) -> Html:
    return element("table", element("tbody", rows(pairs)))
