"""How bract is packaged: the wheel, as somebody installs it, and the names of `import bract`."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import bract

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, and nothing else. It is built from a copy of the sources."""
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in SETTINGS["tool"]["setuptools"]["package-dir"].values():
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(copy / "dist"), str(copy)], check=True, capture_output=True)
    [wheel] = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(out)
    return out


def says(installed: Path, code: str, *, here: Path) -> list[str]:
    """What code prints, run in the folder `here` with the installed package before all others."""
    settings = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], cwd=here, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("here", [ROOT, Path("/")], ids=["in the checkout", "elsewhere"])
def test_the_wheel_installs_all_packages_under_one(installed: Path, here: Path) -> None:
    names = ", ".join(SETTINGS["tool"]["setuptools"]["packages"])
    code = f"import {names}\nprint(bract.__version__, bract.__file__, bract.privacy.__file__)"
    version, top, below = says(installed, code, here=here)
    assert version == SETTINGS["project"]["version"]
    assert Path(top) == installed / "bract" / "__init__.py"
    assert Path(below) == installed / "bract" / "privacy" / "__init__.py"


def test_the_wheel_carries_plans_and_type_markers(installed: Path) -> None:
    assert (installed / "bract" / "py.typed").exists()
    assert (installed / "bract" / "privacy" / "py.typed").exists()
    shipped = {path.name for path in (installed / "bract" / "simulations" / "experiments").glob("*.toml")}
    assert shipped == {path.name for path in (ROOT / "simulations" / "experiments").glob("*.toml")}


def test_the_top_package_loads_nothing_else() -> None:
    """Its names load on first use, so a device that imports `bract.client` loads no simulation."""
    code = "import sys, bract; bract.__version__; dir(bract); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in found if name.startswith("bract")} == {"bract"}
    assert not {"torch", "flwr", "numpy", "pydantic"} & set(found)


def test_the_version_is_that_of_the_project() -> None:
    assert bract.__version__ == SETTINGS["project"]["version"]


def test_lazy_names_are_those_of_the_type_checked_imports() -> None:
    tree = ast.parse((ROOT / "api" / "__init__.py").read_text())
    typed: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            typed.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
    assert {module: set(names) for module, names in bract._MODULES.items()} == typed
    assert set(bract.__all__) == {"__version__", *set().union(*typed.values())}
    assert all(getattr(bract, name) is not None for name in bract.__all__)
    assert dir(bract) == sorted(bract.__all__)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'simulation'"):
        _ = bract.simulation


@pytest.mark.full
def test_type_checkers_know_the_types_where_bract_is_installed(installed: Path) -> None:
    """As somebody's project sees them: without the checkout, whose folders have other names."""
    script = installed / "script.py"
    script.write_text(
        "import bract\nrun: bract.Run = bract.simulate()\nbract.simulatte()\nreveal_type(run.epsilon)\n"
    )
    checker = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(script)]
    said = subprocess.run(checker, cwd=installed, capture_output=True, text=True).stdout
    assert 'Type of "run.epsilon" is "dict[str, float | None]"' in said
    assert '"simulatte" is not a known attribute' in said
    assert "1 error" in said
