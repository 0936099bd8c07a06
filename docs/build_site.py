"""Build the site: docs/, the root folder's pages and the reference from docstrings, put together in build/docs."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "build" / "docs"
OUTER = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""The pages of the root folder that the site has too."""


def main() -> int:
    """Lay out pages, packages and settings anew, have Zensical build `build/docs/site`, and return its exit code."""
    shutil.rmtree(TARGET, ignore_errors=True)
    (TARGET / "pages" / "api").mkdir(parents=True)
    for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.svg"), *(ROOT / name for name in OUTER)]:
        (TARGET / "pages" / path.name).write_text(moved(path.read_text(), path.suffix))
    for name in packages():
        if "." not in name:  # these are read, not imported
            shutil.copytree(ROOT / name, TARGET / "packages" / "bract" / name)
        (TARGET / "pages" / page(name)).write_text(reference(name))
    nav = json.dumps(navigation((ROOT / "docs" / "index.md").read_text()), indent=2)
    (TARGET / "mkdocs.yml").write_text(f"{(ROOT / 'docs' / 'mkdocs.yml').read_text()}\nnav: {nav}\n")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(TARGET / "mkdocs.yml")]
    return subprocess.run(command, cwd=TARGET / "packages").returncode


def moved(text: str, suffix: str) -> str:
    """Return a page with links that are right once all pages lie in one folder."""
    return re.sub(r"\]\((?:\.\./|docs/)", "](", text) if suffix == ".md" else text


def navigation(index: str) -> list[object]:
    """The pages in the order in which `docs/index.md` links to them, and then the reference.

    >>> navigation("[Plans](plan.md), [noise](privacy.md#noise), [plans](plan.md)")[:3]
    ['index.md', {'Plans': 'plan.md'}, {'noise': 'privacy.md'}]
    """
    titles: dict[str, str] = {}
    for title, target in re.findall(r"\[([^]]+)\]\(([\w./-]+\.md)", index):
        titles.setdefault(Path(target).name, title)
    pages = [{title: target} for target, title in titles.items()]
    return ["index.md", *pages, {"Reference": [{f"bract.{name}": page(name)} for name in packages()]}]


def packages() -> list[str]:
    """Every package without the leading `bract.`, as pyproject lists them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    return [name.removeprefix("bract.") for name in settings["packages"] if name != "bract"]


def page(package: str) -> str:
    """Where a package's page of the reference lies."""
    return f"api/{package}.md"


def reference(package: str) -> str:
    """The Markdown of a package's page: what its `__init__` says, then each of its modules with its docstrings."""
    folder = ROOT / package.replace(".", "/")
    about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    modules = [path.stem for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    return "\n\n".join([f"# bract.{package}", about, *(f"::: bract.{package}.{name}" for name in modules)])


if __name__ == "__main__":
    sys.exit(main())
