"""The house: who may import whom, how it is packaged, and how large a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import get_args

import pytest

from bract import privacy
from bract.privacy import Plan, PlanError, mechanism_of
from bract.privacy.plan.schema import Privacy

ROOT = Path(__file__).parent.parent
PACKAGES = ("cli", "client", "models", "privacy", "server", "simulations")
TOP = "api"
"""The folder of `bract` itself. A folder called bract would hide the installed package from the repository's root."""

ARROWS = {
    "privacy": set(),
    "models": set(),
    "client": {"privacy", "models"},
    "server": {"privacy", "models"},
    "simulations": {"privacy", "models", "client", "server"},
    "cli": {"privacy", "models", "client", "server", "simulations"},
    TOP: {"privacy", "models", "simulations"},
}
LIBRARIES = {
    "privacy": {"numpy", "scipy", "cryptography", "pydantic", "pydantic_core"},
    "models": {"torch", "numpy", "safetensors"},
    "client": {"torch", "numpy", "opacus", "flwr", "pydantic"},
    "server": {"torch", "numpy", "flwr", "safetensors", "torchmetrics"},
}
ROOMS = {
    "errors": set(),
    "messages": set(),
    "server_view": {"messages"},
    "budget": set(),
    "noise": set(),
    "derive": set(),
    "storage": {"errors"},
    "npz": {"errors"},
    "settings": {"errors"},
    "encoding": {"noise"},
    "sampling": {"noise"},
    "accounting": {"errors"},
    "plan": {"errors"},
    "secagg": {"errors", "messages", "storage", "derive", "encoding", "noise", "sampling", "plan"},
    "mechanisms": {"errors", "budget", "messages", "derive", "encoding", "noise", "accounting", "plan"},
    "accept": {"errors", "plan", "mechanisms"},
    "planning": {"errors", "budget", "accounting", "plan", "mechanisms", "accept"},
    "ledger": {"errors", "budget", "storage", "accounting"},
}
"""The folders and files of privacy/, from the ground up, and which others each may import."""

LONGEST_CHAIN = 8
"""How many files of privacy/ a chain of imports has at most."""

FLOWER = {"client/app.py", "server/app.py", "server/exchange.py", "simulations/local_grid.py"}
"""The only files that speak to Flower's moving parts; those below touch nothing but its stable names."""
FLOWER_NAMES = {
    "client/device.py": {"Context"},
    "client/run_history.py": {"ConfigRecord", "Context"},
    "client/secure_round.py": {"ConfigRecord", "RecordDict"},
    "server/rounds.py": {"Grid"},
    "server/aggregation/base.py": {"Grid"},
    "server/directory.py": {"Grid"},
    "simulations/run.py": {"Context"},
}


def sources() -> list[Path]:
    return [path for package in (*PACKAGES, TOP) for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """Every imported module, absolute, with the names taken from it: also those inside functions."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    here = ["bract", *(parts[1:] if parts[0] == TOP else parts)]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.append((module, [alias.name for alias in node.names]))
    return found


def faults(path: Path) -> list[str]:
    name = path.relative_to(ROOT).as_posix()
    package = name.split("/")[0]
    wrong = []
    for module, names in imports(path):
        top, *rest = module.split(".")
        if top == "bract":
            target = rest[0] if rest else names[0]
            if target != package and target not in ARROWS[package]:
                wrong.append(f"{name} imports bract.{target}")
        elif top not in sys.stdlib_module_names and package in LIBRARIES and top not in LIBRARIES[package]:
            wrong.append(f"{name} imports {top}")
        if top == "flwr" and name not in FLOWER and not (names and set(names) <= FLOWER_NAMES.get(name, set())):
            wrong.append(f"{name} speaks to flower")
    return wrong


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_imports_only_what_its_package_may(path: Path) -> None:
    assert faults(path) == []


def test_a_forbidden_arrow_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "client").mkdir()
    bad = tmp_path / "client" / "bad.py"
    bad.write_text("def f():\n    from ..server.rounds import train\n    import flwr\n    import pandas\n")
    assert len(faults(bad)) == 3


def graph() -> dict[str, set[str]]:
    """Which of our files each of them imports; what a package's own file imports counts for that file."""
    files = {path.relative_to(ROOT).as_posix() for path in sources()}

    def file_of(module: str) -> str | None:
        path = module.removeprefix("bract").lstrip(".").replace(".", "/")
        return next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in files), None)

    def ours(path: Path) -> set[str]:
        found = {
            file_of(f"{module}.{name}") or file_of(module)
            for module, names in imports(path)
            if module.split(".")[0] == "bract"
            for name in names or [""]
        }
        return {name for name in found if name} - {path.relative_to(ROOT).as_posix()}

    return {path.relative_to(ROOT).as_posix(): ours(path) for path in sources()}


def room(file: str) -> str:
    return file.split("/")[1].removesuffix(".py")


def private() -> dict[str, set[str]]:
    """The graph of privacy/, without the file that names what others use of it.

    `choose.py` loads a mechanism by its name in the schema, so each of these files counts as imported by it.
    """
    found = {
        name: targets for name, targets in graph().items() if name.startswith("privacy/") and room(name) in ROOMS
    }
    noises = get_args(Privacy.model_fields["noise"].annotation)
    found["privacy/mechanisms/choose.py"] |= {f"privacy/mechanisms/{noise}.py" for noise in noises}
    return found


def test_no_file_imports_itself_in_a_circle() -> None:
    TopologicalSorter(graph()).prepare()


def test_a_circle_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that closes inside a function, or over a package's own file."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "privacy" / "noise").mkdir(parents=True)
    (tmp_path / "privacy" / "noise" / "__init__.py").write_text("from .made import x\n")
    (tmp_path / "privacy" / "noise" / "made.py").write_text("def f():\n    from ..used import y\n")
    (tmp_path / "privacy" / "used.py").write_text("from .noise import x\n")
    with pytest.raises(CycleError):
        TopologicalSorter(graph()).prepare()


def test_the_rooms_of_privacy_are_its_folders_and_files() -> None:
    found = {room(path.relative_to(ROOT).as_posix()) for path in (ROOT / "privacy").rglob("*.py")}
    assert found == {*ROOMS, "__init__"}


def test_the_rooms_of_privacy_import_downwards_only() -> None:
    TopologicalSorter(ROOMS).prepare()
    used = {(room(name), target) for name, targets in private().items() for target in targets}
    assert {(here, target) for here, target in used if room(target) not in {here, *ROOMS[here]}} == set()


def test_no_chain_of_imports_in_privacy_is_longer() -> None:
    files, longest = private(), dict[str, int]()
    for name in TopologicalSorter(files).static_order():
        longest[name] = 1 + max((longest[target] for target in files[name]), default=0)
    assert max(longest.values()) <= LONGEST_CHAIN


def knows_unprotected(tree: ast.AST) -> bool:
    """Whether code has a name for protecting nobody, or tells the unit `none` from others."""
    for node in ast.walk(tree):
        named = {getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module")}
        if any(isinstance(name, str) and "protected" in name.lower() for name in named):
            return True
        told = isinstance(
            node, ast.Compare | ast.match_case | ast.Subscript | ast.Dict | ast.Set | ast.Tuple | ast.List
        )
        if told and any(isinstance(part, ast.Constant) and part.value == "none" for part in ast.walk(node)):
            return True
    return False


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "simulations"])
def test_only_simulations_know_of_protecting_nobody(package: str) -> None:
    paths = (ROOT / package).rglob("*.py")
    assert [str(path) for path in paths if knows_unprotected(ast.parse(path.read_text()))] == []


def test_a_unit_that_protects_nobody_is_seen() -> None:
    """However it is told, in the simulations too, which do."""
    for line in (
        "x = p.unit == 'none'",
        "x = p.unit in ('client', 'none')",
        "unit: Literal['record', 'none']",
        "x = {'none': 1}[p.unit]",
        "match p.unit:\n    case 'none':\n        x = 1",
        "x = study.protected",
        "class Unprotected: ...",
        "from .unprotected import open_contribution",
    ):
        assert knows_unprotected(ast.parse(line)), line
    assert not knows_unprotected(ast.parse("x = loss(reduction='none')"))
    knowing = [
        path for path in (ROOT / "simulations").rglob("*.py") if knows_unprotected(ast.parse(path.read_text()))
    ]
    assert ROOT / "simulations" / "study.py" in knowing


def test_a_plan_and_its_mechanism_know_two_units() -> None:
    assert get_args(Privacy.model_fields["unit"].annotation) == ("record", "client")
    nobody = Plan.model_construct(**dict(Plan(), privacy=Privacy.model_construct(unit="none")))
    with pytest.raises(PlanError, match="has no mechanism"):
        mechanism_of(nobody)


def test_no_file_of_code_is_over_400_lines() -> None:
    files = [*sources(), *ROOT.glob("benchmarks/*.py")]
    assert {str(path): lines for path in files if (lines := len(path.read_text().splitlines())) > 400} == {}


def every_test(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from every_test(node.body)
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node


def test_a_tests_name_has_at_most_60_characters() -> None:
    """The name says what holds, the docstring has the detail."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        names = [node.name for node in every_test(ast.parse(path.read_text()).body)]
        assert [name for name in names if len(name) > 60] == [], path


def test_a_file_of_tests_says_what_it_holds() -> None:
    files = (ROOT / "tests").rglob("*.py")
    assert [str(path) for path in files if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_the_package_list_is_the_folders() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    below = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in sources()} - {TOP}
    assert set(settings["packages"]) == {"bract", *(f"bract.{folder}" for folder in below)}
    assert settings["package-dir"] == {"bract": TOP, **{f"bract.{name}": name for name in PACKAGES}}


def test_no_folder_hides_the_installed_package() -> None:
    """A folder bract/ at the root, or in the bundle that Flower ships, would come before the installed package."""
    assert not (ROOT / "bract").exists()
    assert not (ROOT / "bract.py").exists()


def test_no_module_of_the_top_package_hides_a_package() -> None:
    names = {path.stem for path in (ROOT / TOP).iterdir()}
    assert not names & set(PACKAGES)


@pytest.mark.parametrize("package", [*PACKAGES, TOP])
def test_type_checkers_may_read_every_package(package: str) -> None:
    """PEP 561: the top package has the marker, and the wheel carries it; so has each package below it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert (ROOT / package / "py.typed").read_bytes() == b""
    assert "py.typed" in settings["package-data"]["*"]


def test_no_archive_is_committed() -> None:
    """Data sets are fetched and checked, never kept in the repository; `.data/` is where tests keep theirs."""
    command = ["git", "-C", str(ROOT), "ls-files"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in names if name.endswith((".whl", ".zip", ".gz", ".npz"))] == []
    assert ".data/" in (ROOT / ".gitignore").read_text().splitlines()


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh process has loaded after some lines of code."""
    code = f"{code}\nimport sys\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )


def test_privacy_imports_neither_torch_nor_flower() -> None:
    """Its public names load lazily, so the code asks for all of them."""
    found = loaded_by("from bract.privacy import *")
    assert "bract.privacy.plan.plan" in found
    assert not found & {"torch", "flwr", "opacus"}


@pytest.mark.parametrize(("package", "never"), [("client.app", ()), ("privacy", ("torch", "flwr")), ("models", ())])
def test_a_package_below_loads_no_simulation(package: str, never: tuple[str, ...]) -> None:
    found = loaded_by(f"import bract.{package}")
    assert [name for name in found if f"{name}.".startswith(("bract.simulations.", "bract.cli."))] == []
    assert not found & set(never)


def test_an_error_class_loads_no_other_module_of_privacy() -> None:
    found = loaded_by("import bract.privacy.errors")
    assert {name for name in found if name.startswith("bract.")} == {"bract.privacy", "bract.privacy.errors"}
    assert "bract" in found


def test_clipping_loads_neither_plan_nor_pydantic() -> None:
    """A hook on a layer needs an error class, and no plan: every module of the room is imported."""
    files = sorted((ROOT / "client" / "clipping").rglob("[a-z]*.py"))
    names = [".".join(["bract", *path.relative_to(ROOT).with_suffix("").parts]) for path in files]
    found = loaded_by(f"import {', '.join(names)}")
    assert {name for name in found if name.startswith("bract.privacy.")} == {
        "bract.privacy.errors",
        "bract.privacy.npz",
    }
    assert not found & {"pydantic", "flwr", "cryptography"}


def test_lazy_names_of_privacy_are_its_type_checked_imports() -> None:
    tree = ast.parse((ROOT / "privacy" / "__init__.py").read_text())
    typed = {n.module: {a.name for a in n.names} for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level}
    assert {module: set(names) for module, names in privacy._MODULES.items()} == typed
    assert set(privacy.__all__) == set().union(*typed.values())
    assert all(getattr(privacy, name) is not None for name in privacy.__all__)


def test_a_deployment_imports_nothing_that_weakens_privacy() -> None:
    code = (
        "import sys, bract.client.app, bract.server.app;"
        "print([m for m in sys.modules if m.startswith(('bract.simulations', 'bract.cli.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_newest_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0].split()[1] == version
