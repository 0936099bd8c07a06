"""Break how a network is found by its name, and how columns become numbers."""

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


@turns_red("models/test_columns.py::test_a_record_depends_on_itself_alone")
def standardize_by_the_mean_of_the_data() -> None:
    import numpy as np

    import bract.models.columns as columns

    columns._scaled = lambda numbers, rule: numbers - np.nan_to_num(numbers, posinf=0, neginf=0).mean()
