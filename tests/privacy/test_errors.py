"""Errors of two lines, and their exit codes."""

from __future__ import annotations

import pytest

from bract.privacy import (
    BractError,
    BudgetError,
    DataError,
    DivergedError,
    PlanError,
    RoundError,
    StateError,
    StorageError,
)
from bract.privacy.accounting.accountant import AccountingError

KINDS = [BractError, PlanError, DataError, BudgetError, StateError, StorageError, RoundError, DivergedError]
KINDS += [AccountingError]


@pytest.mark.parametrize("kind", KINDS)
def test_says_what_is_wrong_and_what_to_do_in_two_lines(kind: type[BractError]) -> None:
    error = kind("the plan is wrong", "mend it")
    assert str(error) == "error: the plan is wrong\nhint: mend it"
    assert (error.what, error.hint) == ("the plan is wrong", "mend it")


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_a_bract_error_and_no_os_error(kind: type[BractError]) -> None:
    """Each is caught as a `BractError`, and none as an error of the operating system."""
    with pytest.raises(BractError):
        raise kind("what", "hint")
    assert not issubclass(kind, OSError | ValueError)


def test_exit_codes_tell_apart_what_a_script_would_do_next() -> None:
    kinds = (BudgetError, StateError, StorageError, RoundError, DivergedError, PlanError)
    codes = {kind: kind.exit_code for kind in kinds}
    assert len(set(codes.values())) == len(codes)
    assert 0 not in codes.values()
    assert DataError.exit_code == PlanError.exit_code == 2
