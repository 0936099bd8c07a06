"""The names of a plan's classes."""

from __future__ import annotations

from ..study import Study


def class_names(plan: Study) -> tuple[str, ...]:
    """Return the name of each class: the plan's, its token for a text, or its number."""
    if plan.data.vocabulary is not None:
        return plan.data.vocabulary
    if plan.data.labels is None:
        return tuple(str(number) for number in range(plan.data.classes))
    return tuple(word if isinstance(word, str) else _written(word) for word in plan.data.labels)


def _written(number: float) -> str:
    """Return a number with all of its digits, so that two classes never have one name.

    >>> _written(1234567.0), _written(1234568.0), _written(0.1)
    ('1234567', '1234568', '0.1')
    """
    return str(int(number)) if number == int(number) else repr(number)
