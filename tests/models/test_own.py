"""A network of one's own is found by name, and no other name runs anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from torch import nn

from bract.models import Network, NoNetworkError, build, find_network, objective_of
from bract.models.objectives import CLASSIFICATION, REGRESSION
from bract.models.own import find_own

Put = Callable[[str], str]

BUILD = """
from torch import nn
def build(shape, classes):
    return nn.Linear(shape[0], classes)
"""


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function: write a module with this source where Python finds it, and return its name, a new one each time."""
    monkeypatch.syspath_prepend(tmp_path)
    find_own.cache_clear()
    names = []

    def write(source: str) -> str:
        names.append(f"own_{len(names)}_{tmp_path.name}".replace("-", "_"))
        (tmp_path / f"{names[-1]}.py").write_text(source)
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)
    find_own.cache_clear()


def test_a_function_of_a_module_is_a_network_that_classifies(put: Put) -> None:
    name = f"{put(BUILD)}:build"
    assert isinstance(build(name, (4,), 3), nn.Linear)
    assert objective_of(name, (4,)) is CLASSIFICATION


def test_a_network_of_a_module_says_what_it_learns(put: Put) -> None:
    source = BUILD + (
        "from bract.models import Network\nfrom bract.models.objectives import REGRESSION\n"
        "NETWORK = Network('mine', build, REGRESSION)\n"
    )
    name = f"{put(source)}:NETWORK"
    assert isinstance(find_network(name), Network)
    assert objective_of(name, (4,)) is REGRESSION


def test_a_class_of_a_module_is_a_network(put: Put) -> None:
    source = (
        "from torch import nn\nclass Net(nn.Linear):\n"
        "    def __init__(self, shape, classes):\n        super().__init__(shape[0], classes)\n"
    )
    assert isinstance(build(f"{put(source)}:Net", (4,), 3), nn.Linear)


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "os.path:join",
        "antigravity:x",
        "a b:c",
        "a:b:c",
        "../x:build",
        ":build",
        "os:",
        "a:__class__.b",
        "ä:b",
    ],
)
def test_a_name_of_another_form_or_of_python_runs_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = list[object]()
    monkeypatch.setattr("bract.models.own.import_module", ran.append)
    monkeypatch.setattr(os, "system", ran.append)
    with pytest.raises(NoNetworkError):
        find_network(name)
    assert not ran


@pytest.mark.parametrize(
    ("source", "attribute", "what"),
    [
        ("", "build", "has no build"),
        ("build = 3", "build", "neither a function"),
        ("def build(command): raise AssertionError", "build", "neither a function"),
        ("def build(shape, classes, depth): raise AssertionError", "build", "neither a function"),
        ("import no_such_module_here", "build", "needs the module no_such_module_here"),
        ("1 / 0", "build", "fails: ZeroDivisionError"),
        ("raise SystemExit(3)", "build", "fails: SystemExit"),
        ("def build(", "build", "fails: SyntaxError"),
    ],
)
def test_what_is_no_network_is_refused_and_not_called(put: Put, source: str, attribute: str, what: str) -> None:
    with pytest.raises(NoNetworkError, match=what) as caught:
        find_network(f"{put(source)}:{attribute}")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return 3", "returns int, not a torch.nn.Module"),
        ("raise KeyError('x')", "cannot be built for records of shape"),
        ("raise ValueError('sides of 8 or more')", "sides of 8 or more"),
    ],
)
def test_a_function_that_builds_no_network_is_a_fault_of_values(put: Put, body: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        build(f"{put(f'def build(shape, classes): {body}')}:build", (4,), 3)


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(NoNetworkError, match="no module no_such_package for the network no_such"):
        find_network("no_such_package.nets:build")


def test_an_entry_point_is_a_network(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("mine", f"{put(BUILD)}:build", "bract.networks")
    monkeypatch.setattr("bract.models.own.metadata.entry_points", lambda group: [point])
    assert isinstance(build("mine", (4,), 3), nn.Linear)
    with pytest.raises(NoNetworkError, match="no model other"):
        find_network("other")


def test_two_packages_with_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [metadata.EntryPoint("mine", f"{module}:build", "bract.networks") for module in ("one", "two")]
    monkeypatch.setattr("bract.models.own.metadata.entry_points", lambda group: points)
    with pytest.raises(NoNetworkError, match="several installed packages"):
        find_network("mine")
