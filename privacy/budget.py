"""What may be spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

View = Literal["server", "released"]
"""Who looks: the server during training, or someone who sees only the released models."""


@dataclass(frozen=True)
class Budget:
    """The most that one unit may lose: (epsilon, delta) under adding or removing one `unit`.

    `epsilon` None bounds nothing, which only a simulation can ask for. `view` says against whom it holds.
    """

    epsilon: float | None
    delta: float
    unit: str
    view: View
    relation: str = "add-or-remove-one"

    def to_json(self) -> dict[str, Any]:
        """The budget as plain values."""
        return asdict(self)
