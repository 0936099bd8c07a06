"""docs/extending.md is followed: its code goes where the page says, and its commands run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()
FILES = re.findall(r'^```(?:python|toml) title="([^"]+)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files; its package is installed, and `bract` is a copy with the page's own files."""
    folder = tmp_path_factory.mktemp("extending")
    shutil.copytree(ROOT / "api", folder / "bract", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("cli", "client", "models", "privacy", "server", "simulations"):
        shutil.copytree(ROOT / name, folder / "bract" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.suffix == ".toml" and path.exists() else "") + text)
    _install(folder / "package")
    return folder


def _install(package: Path) -> None:
    """Write what `pip install` writes about a package: its name, its version and its entry points."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    about = package / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"].items()
    lines = [line for group, own in points for line in (f"[{group}]", *(f"{k} = {v}" for k, v in own.items()))]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")


def run(place: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the page in its folder, with the copy of bract."""
    program, *words = shlex.split(command)
    assert program == "bract"
    code = f"import bract.models as m; assert {str(place)!r} in m.__file__; from bract.cli.main import run; "
    code += "import sys; sys.exit(run(sys.argv[1:]))"
    environment = os.environ | {
        "PYTHONPATH": f"{place}{os.pathsep}{place / 'package'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    given = [sys.executable, "-c", code, *words]
    return subprocess.run(given, cwd=place, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_a_command_of_the_page_runs(place: Path, number: int) -> None:
    done = run(place, COMMANDS[number])
    assert done.returncode == 0, done.stderr
    out = re.search(r"--out (\S+)", COMMANDS[number])
    assert out is None or (place / out[1] / "model.safetensors").exists()


def test_the_page_has_a_command_for_each_kind_of_extension() -> None:
    assert len(COMMANDS) >= 5
    assert len(FILES) >= 8


def test_the_tied_language_model_of_the_page_is_clipped(place: Path) -> None:
    """It is refused without its rule, so this also shows what `register_rule` is for."""
    code = (
        "import sys; sys.path.insert(0, 'beside'); import torch, talk; "
        "from bract.client.clipping.engine import make_engine; "
        "from bract.client.records import Records; t = torch.randint(0, 7, (4, 5)); "
        "make_engine(talk.NETWORK.build((5,), 7), 1.0).clipped_sum(Records(t, t))"
    )
    for source, fine in ((code, True), (code.replace("torch, talk", "torch, untaught as talk"), False)):
        text = (place / "beside" / "talk.py").read_text()
        (place / "beside" / "untaught.py").write_text(text.replace("register_rule(Talk)\n", ""))
        environment = os.environ | {"PYTHONPATH": str(place)}
        done = subprocess.run(
            [sys.executable, "-c", source], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == fine, done.stderr
        assert fine or "register_rule" in done.stderr
