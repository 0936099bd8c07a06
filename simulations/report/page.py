"""HTML for the reports: elements that always escape their text, and the page around them."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Html(str):
    """Finished markup. An element escapes every other string."""


def element(tag: str, *children: str, **attributes: str) -> Html:
    """Return one element. `class_` sets the attribute class, `aria_label` sets aria-label.

    >>> element("p", "a < b", element("b", "c"), class_="d")
    '<p class="d">a &lt; b<b>c</b></p>'
    """
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    opening = "".join(f' {names[name]}="{escape(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{opening}>{join(children)}</{tag}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    """Return the parts joined: markup unchanged, text escaped."""
    return Html(between.join(part if isinstance(part, Html) else escape(part) for part in parts))


def section(heading: str, *parts: str) -> Html:
    """Return a section with an h2 heading."""
    return element("section", join([element("h2", heading), *parts], "\n"))


def rows(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return the rows of a table with two columns, name and value."""
    return join(
        (element("tr", element("th", name, scope="row"), element("td", value)) for name, value in pairs), "\n"
    )


def page(title: str, parts: Iterable[str]) -> Html:
    """Return the whole document. Its content security policy forbids fetching and running anything."""
    return join([_HEAD, element("title", title), _STYLE, *parts, Html("</main>\n</body>\n</html>\n")], "\n")


_HEAD = Html("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">""")

_STYLE = Html("""<style>
:root {
  --paper: #fdfdfb; --ink: #22262b; --quiet: #5b636c; --rule: #d8dbdd; --card: #f3f4f2;
  --accent: #1d6391; --second: #b4561c; --notice: #fbf0e0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16191c; --ink: #dfe3e6; --quiet: #9aa3ab; --rule: #363c42; --card: #1e2226;
    --accent: #79b7e3; --second: #eda266; --notice: #33291b;
  }
}
@media print {
  :root {
    --paper: #fff; --ink: #000; --quiet: #444; --rule: #bbb; --card: #fff;
    --accent: #1d6391; --second: #b4561c; --notice: #fff;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 650; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; line-height: 1.3; font-weight: 650; margin: 3rem 0 .8rem; }
p, li { max-width: 44rem; }
p { margin: 0 0 .8rem; }
ul { margin: 0; padding-left: 1.2rem; }
li { margin-bottom: .55rem; }
.kind, .lead, figcaption, .note { color: var(--quiet); }
.kind { margin: 0 0 .2rem; }
.lead { margin-bottom: 1.5rem; }
.notice {
  max-width: none; background: var(--notice); border-left: .25rem solid var(--second);
  padding: .7rem 1rem; margin: 0 0 .8rem;
}
.headline { display: grid; grid-template-columns: repeat(12, 1fr); gap: .75rem; margin: 1.5rem 0 0; }
.headline div { grid-column: span 4; background: var(--card); border: 1px solid var(--rule); padding: .8rem 1rem; }
.headline div:nth-child(n+4) { grid-column: span 6; }
.headline dt { color: var(--quiet); font-size: .9rem; line-height: 1.35; }
.headline dd { margin: .3rem 0 0; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.headline dd.words { font-size: 1.2rem; }
@media (max-width: 42rem) { .headline div, .headline div:nth-child(n+4) { grid-column: span 12; } }
figure { margin: 0 0 2rem; overflow-x: auto; }
figcaption { font-size: .95rem; margin-bottom: .4rem; }
sup { line-height: 0; }
svg { display: block; width: 100%; min-width: 34rem; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: system-ui, sans-serif !important; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td {
  padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--rule);
  text-align: left; vertical-align: top;
}
th { font-weight: normal; color: var(--quiet); width: 17rem; }
td { overflow-wrap: anywhere; }
tbody th[scope=rowgroup] { color: var(--ink); font-weight: 650; padding-top: 1.1rem; }
code { font: .92em/1.4 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; unicode-bidi: isolate; }
@media (max-width: 42rem) { th { width: 42%; } }
@media print {
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  h2 { margin-top: 1.6rem; }
  h2, figcaption { break-after: avoid; }
  figure, tr, li, .headline div, .notice { break-inside: avoid; }
  svg { min-width: 0; }
}
</style>
</head>
<body>
<main>""")
