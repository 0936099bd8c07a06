"""Break how a network is found by its name."""

from __future__ import annotations

from .registry import turns_red


@turns_red("models/test_own.py::test_what_is_no_network_is_refused_and_not_called")
def call_whatever_a_name_finds() -> None:
    import bract.models.own as own

    own._arguments = lambda function: own.ARGUMENTS


@turns_red("models/test_own.py::test_a_name_of_another_form_or_of_python_runs_nothing")
def import_a_module_of_python_for_a_network() -> None:
    import sys

    sys.stdlib_module_names = frozenset()
