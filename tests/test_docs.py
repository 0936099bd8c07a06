"""What the documents name is there: commands, options, plan keys, settings, files, numbers that code fixes."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import typer

from bract.cli.commands import app
from bract.client.device import SETTINGS as NODE
from bract.privacy import Mechanism, Plan, make_plan
from bract.privacy.derive import VERSION
from bract.privacy.mechanisms.base import Grid
from bract.server.app import SETTINGS as RUN
from bract.simulations.study import Study, make_study

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
OURS = {name: page for name, page in PAGES.items() if name != "CHANGELOG.md"}
FOLDERS = ("api", "benchmarks", "cli", "client", "docs", "models", "privacy", "server", "simulations", "tests")
SPLIT = re.compile(r"\s+\\\n\s+")


def commands(tool: str) -> list[str]:
    """Every command line of a tool that a document shows in a block, continued lines joined."""
    lines = [line for page in OURS.values() for line in SPLIT.sub(" ", page).splitlines()]
    return [line.strip() for line in lines if line.startswith(f"    {tool} ")]


def named(pattern: str) -> set[str]:
    """What matches within the code words of any document."""
    words = {word for page in OURS.values() for word in re.findall(r"`([^`\n]+)`", page)}
    return {match for word in words for match in re.findall(pattern, word)}


def parse(command: click.Command, words: list[str]) -> None:
    """Parse a command line as the command would, and run nothing."""
    with command.make_context(command.name, words) as context:
        if isinstance(command, click.Group):
            _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert inner is not None
            parse(inner, rest)


def test_there_are_commands_to_look_at() -> None:
    assert len(commands("bract")) > 20
    assert len(commands("flwr")) >= 2


@pytest.mark.parametrize("line", commands("bract"))
def test_every_documented_command_is_one_that_bract_takes(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    parse(typer.main.get_command(app), [word for word in words if word != "..."])


def test_every_documented_key_of_a_plan_is_one() -> None:
    tables = {name: field.annotation for name, field in Study.model_fields.items()}
    keys = {f"{table}.{key}" for table, kind in tables.items() for key in getattr(kind, "model_fields", ())}
    files = "toml|json|jsonl|npz|pem|sha256|bract|html|svg|py|csv|safetensors|md"
    shown = named(rf"(?<![\w/.-])(?:{'|'.join(tables)})\.(?!(?:{files})\b)[a-z_]+\b")
    assert len(shown) > 40
    assert shown <= keys


def test_the_page_on_the_plan_has_a_row_for_every_key() -> None:
    rows = "\n".join(line.split("|")[1] for line in PAGES["plan.md"].splitlines() if line.startswith("| `"))
    for table, field in Study.model_fields.items():
        for key in getattr(field.annotation, "model_fields", ()):
            assert f"`{table}.{key}`" in rows


@pytest.mark.parametrize(("kind", "least"), [(Plan, 1), (Mechanism, 3), (Grid, 5)])
def test_every_documented_member_of_a_plan_is_there(kind: type, least: int) -> None:
    """What follows from a plan is on its mechanism, or on the grid of it."""
    shown = named(rf"\b{kind.__name__}\.(\w+)")
    assert len(shown) >= least
    known = {*dir(kind), *getattr(kind, "__dataclass_fields__", ())}
    assert shown <= known


def test_every_documented_file_of_ours_is_there() -> None:
    shown = named(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w/.-]*")
    assert len(shown) > 20
    assert [path for path in sorted(shown) if not (ROOT / path).exists()] == []


def test_every_file_in_the_picture_is_there() -> None:
    texts = re.findall(r'class="path">([^<]+)<', (ROOT / "docs" / "architecture.svg").read_text())
    paths = {path for text in texts for path in text.split(" · ")}
    assert len(paths) > 10
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_the_plan_of_the_readme_is_complete() -> None:
    """It is accepted as it stands: the noise multiplier is found for its budget, and no key is missing."""
    [text] = re.findall(r"```toml\n(.*?)```", PAGES["README.md"], re.DOTALL)
    study = make_study(tomllib.loads(text))
    assert study.privacy.noise_multiplier == pytest.approx(1.447, abs=0.001)


def test_the_settings_of_the_walk_through_are_known() -> None:
    page = SPLIT.sub(" ", PAGES["deployment.md"])
    nodes = re.findall(r"--node-config\s+'([^']+)'", page)
    runs = re.findall(r"--run-config\s+'([^']+)'", page)
    assert len(nodes) >= 1
    assert len(runs) >= 2
    for given, known in [*((text, NODE) for text in nodes), *((text, RUN) for text in runs)]:
        assert {name for name, _ in re.findall(r"([\w-]+)=(\"[^\"]*\")", given)} <= set(known)


def test_the_documented_protocol_is_the_one_that_is_spoken() -> None:
    assert f"`{VERSION.decode()}`" in PAGES["secure-aggregation.md"]


def test_the_table_of_colluders_is_what_plans_have() -> None:
    """And that of the least sums."""
    rows = {
        cells[0]: [int(cell.replace(",", "")) for cell in cells[1:]]
        for line in PAGES["secure-aggregation.md"].splitlines()
        if line.startswith(("| planned", "| colluders", "| T, ", "| may be"))
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    sizes, colluders, least, missing = rows.values()
    for n, c, s, gone in zip(sizes, colluders, least, missing, strict=True):
        data, secure = {"clients": n}, {"protocol": "secagg", "dropouts": 0.0}
        plan = make_plan({"data": data, "cohort": {"size": n}, "aggregation": secure}, Plan)
        assert (plan.colluders, plan.least_survivors) == (c, s)
        assert gone == n - s


def test_the_index_links_to_every_page() -> None:
    """The site takes its pages, and their order, from the links of the index."""
    linked = {Path(target).name for target in re.findall(r"\]\(([^)#]+\.md)", PAGES["index.md"])}
    assert {path.name for path in ROOT.glob("docs/*.md")} - {"index.md"} <= linked


def glossary() -> list[tuple[str, str, str]]:
    """Word, meaning and file of each row of the glossary."""
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| `(.+?)` \|$", PAGES["architecture.md"], re.MULTILINE)
    assert len(rows) > 40
    return rows


def test_the_glossary_has_no_word_twice() -> None:
    """One word has one meaning, and one meaning has one word."""
    words, meanings = zip(*((word.lower(), meaning) for word, meaning, _ in glossary()), strict=True)
    assert list(words) == sorted(set(words))
    assert len(set(meanings)) == len(meanings)


@pytest.mark.parametrize(("word", "file"), [(word, file) for word, _, file in glossary()])
def test_a_word_of_the_glossary_is_used_in_its_file(word: str, file: str) -> None:
    text, wanted = (re.sub(r"[\s/._-]+", " ", part.lower()) for part in (file + (ROOT / file).read_text(), word))
    assert wanted in text


def test_every_package_is_in_the_architecture() -> None:
    """No room of the code is missing from the walks but those that hold pages, plans and plots."""
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for name in ("client", "privacy", "server")
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert [folder for folder in sorted(folders) if f"`{folder}/" not in PAGES["architecture.md"]] == []
