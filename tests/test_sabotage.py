"""Break a guarantee, and see the test that is named for it go red: a test that cannot fail guards nothing."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from sabotage import SABOTAGES
from sabotage.runner import TESTS, run


@cache
def names_in(path: Path) -> set[str]:
    """The tests of a file, each as pytest writes it after the file's name, without parameters."""
    names = set[str]()
    for node in ast.parse(path.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        names |= {prefix + part.name for part in inner if isinstance(part, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("name", SABOTAGES)
def test_the_test_that_a_sabotage_names_exists(name: str) -> None:
    path, _, test = SABOTAGES[name].test.partition("::")
    assert test.split("[")[0] in names_in(TESTS / path)


@pytest.mark.full
@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_is_caught(name: str, tmp_path: Path) -> None:
    test = SABOTAGES[name].test
    assert f"FAILED tests/{test}" in run(test, name, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("test", sorted({sabotage.test for sabotage in SABOTAGES.values()}))
def test_without_sabotage_the_named_test_is_green(test: str, tmp_path: Path) -> None:
    output = run(test, None, tmp_path)
    assert " passed" in output
    assert "FAILED" not in output


@pytest.mark.parametrize("test", ["test_guarantees.py::test_nothing", "test_nothing.py::test_nothing"])
def test_an_unknown_test_is_neither_red_nor_green(test: str, tmp_path: Path) -> None:
    output = run(test, "skip_the_clip", tmp_path)
    assert "FAILED" not in output
    assert " passed" not in output


def test_without_sabotage_the_guarantees_hold(tmp_path: Path) -> None:
    output = run("test_guarantees.py", None, tmp_path)
    assert " passed" in output
    assert "FAILED" not in output
