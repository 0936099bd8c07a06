"""The names of a plan's classes."""

from __future__ import annotations

from ..study import Study


def class_names(plan: Study) -> tuple[str, ...]:
    """Return the name of each class: the plan's, or its number."""
    if plan.data.labels is None:
        return tuple(str(number) for number in range(plan.data.classes))
    return tuple(word if isinstance(word, str) else f"{word:g}" for word in plan.data.labels)
