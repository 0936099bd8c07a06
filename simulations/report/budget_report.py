"""The report of `bract budget`: one HTML file with a plan's cost, its curves, and whether it can work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ...privacy import mechanism_of
from ...privacy.errors import StorageError
from ...privacy.storage import replace_file
from ..budget.answer import BudgetAnswer
from ..budget.words import facts, in_words, show, show_ratio
from .budget_figures import figures
from .page import Html, element, page, rows, section
from .run_figures import VIEWS

STYLE = Html("""<style>
pre { overflow-x: auto; font: .9rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; margin: 0; }
.wide { overflow-x: auto; }
.columns th, .columns td { width: auto; padding-right: 1rem; }
.columns td:nth-child(-n+3) { white-space: nowrap; }
.columns thead th { border-bottom-color: var(--quiet); }
</style>""")


def write_report(path: Path, answer: BudgetAnswer) -> None:
    """Write the report to `path`; the same answer gives the same bytes.

    Raises:
        StorageError: the file cannot be written; an old report stays intact.
    """
    if not path.parent.is_dir():
        raise StorageError(f"there is no folder {path.parent}", "create it, or name another file with --plot")
    plan = answer.plan
    title = f"{plan.model.name} on {plan.data.name}"
    parts = [
        STYLE,
        element("header", *_header(title, answer)),
        _headline(answer),
        section("What it costs, and whether it can work", element("table", element("tbody", rows(_facts(answer))))),
        section("Curves", element("p", _ABOUT_CURVES, class_="note"), *figures(answer)),
        section("Epsilon by accountant", *_accountants(answer)),
        section("How to read this", element("ul", *_caveats())),
        section("The plan", element("p", _ABOUT_PLAN, class_="note"), element("pre", plan.to_toml())),
    ]
    replace_file(path, page(f"Privacy budget: {title}", parts).encode("utf-8", "backslashreplace"))


def shown(answer: BudgetAnswer) -> Html:
    """Return the answer's table, as a notebook shows it."""
    return element("table", element("tbody", rows([*_headings(answer), *_facts(answer)])))


def _header(title: str, answer: BudgetAnswer) -> Iterator[Html]:
    plan = answer.plan
    yield element("p", "Privacy budget", class_="kind")
    yield element("h1", title)
    unit, noise = plan.privacy.unit, plan.privacy.noise
    yield element("p", f"{answer.name}: protects each {unit}, noise is {noise}. Nothing was trained.", class_="lead")
    found = answer.own.signal
    if found and found.verdict != "works":
        start = "This cannot work:" if found.verdict == "cannot work" else "This will be hard:"
        text = (
            f" the noise over all rounds is {show_ratio(found.ratio)} times the signal. Any one of these would help: "
        )
        help_ = "; ".join(remedy.words for remedy in answer.remedies)
        yield element("p", element("strong", start), f"{text}{help_}.", class_="notice", role="note")


def _headline(answer: BudgetAnswer) -> Html:
    cells = (element("div", element("dt", name), _shown(value)) for name, value in _headings(answer))
    return element("dl", *cells, class_="headline")


def _headings(answer: BudgetAnswer) -> list[tuple[str, str]]:
    own = answer.own
    found = own.signal
    return [
        *((f"Epsilon {VIEWS[view]}", show(own.cost.of(view))) for view in VIEWS),
        ("Noise multiplier", f"{mechanism_of(own.plan).noise_multiplier:g}"),
        ("Noise-to-signal ratio over all rounds", show_ratio(found.ratio) if found else "not known"),
        ("Training under this noise", found.verdict if found else "not known"),
    ]


def _shown(value: str) -> Html:
    return element("dd", value, class_="figure" if value[0].isdigit() else "words")


def _facts(answer: BudgetAnswer) -> Iterator[tuple[str, Html]]:
    """Yield the facts as (name, cell), with continuation lines in the same cell."""
    pairs: list[tuple[str, list[str]]] = []
    for name, text in facts(answer):
        if name:
            pairs.append((name, []))
        pairs[-1][1].append(text)
    for name, lines in pairs:
        yield name, Html(element("br").removesuffix("</br>").join(element("span", line) for line in lines))


_ABOUT_CURVES = (
    "The curve over rounds shows the charged epsilon. The other curves are Rényi bounds at the plan's noise. For"
    " Gaussian noise they lie above the charged epsilon: by a tenth for many large steps, by a quarter or more for"
    " small sampling rates. For noise that the devices share, they equal it."
)
_ABOUT_PLAN = "The resolved plan, with its noise multiplier. A file with this text is the same plan."


def _accountants(answer: BudgetAnswer) -> Iterator[Html]:
    view = mechanism_of(answer.plan).budget_view
    yield element("p", f"For the same events, {VIEWS[view]}: {in_words(answer.own, view)}.", class_="note")
    heads = ("accountant", "epsilon", "is", "why")
    head = element("thead", element("tr", *(element("th", text, scope="col") for text in heads)))
    body = element("tbody", *(element("tr", *_cells(row)) for row in _figures(answer)))
    yield element("div", element("table", head, body, class_="columns"), class_="wide")


def _figures(answer: BudgetAnswer) -> Iterator[tuple[str, str, str, str]]:
    standing = {"reported": "charged", "bound": "a bound", "estimate": "no bound"}
    for figure in answer.accountants:
        value = "-" if figure.epsilon is None else show(figure.epsilon)
        yield figure.accountant, value, standing[figure.standing], figure.why


def _cells(texts: Iterable[str]) -> Iterator[Html]:
    yield from (element("td", text) for text in texts)


def _caveats() -> Iterator[Html]:
    yield from (element("li", element("strong", name), f" {text}") for name, text in _CAVEATS)


_CAVEATS = (
    (
        "Epsilon is a fact, the rest a forecast.",
        "The cost of a plan is proven. The forecast for training is a rule of thumb from test runs of small networks:"
        " it separates hopeless plans from promising ones, not 85 % accuracy from 88 %.",
    ),
    (
        "The noise-to-signal ratio",
        "is the L2 norm of the noise divided by the L2 norm of the average update, over the whole training: over the"
        " rounds, signal grows faster than noise. The ratio ignores how hard the data are.",
    ),
    (
        "This page costs no privacy.",
        "It reads no data. Choosing a plan by the results of training runs on the data costs privacy that is not"
        " counted here.",
    ),
)
