"""The privacy budget."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

View = Literal["server", "released"]
"""The adversary's view: the server's during training, or only the released models."""


@dataclass(frozen=True)
class Budget:
    """The (epsilon, delta) limit of a ledger, for neighbours that differ by adding or removing one `unit`.

    `epsilon` None is no limit, which only a simulation can ask for. `view` is the view that the limit applies to.
    """

    epsilon: float | None
    delta: float
    unit: str
    view: View
    relation: str = "add-or-remove-one"

    def to_json(self) -> dict[str, Any]:
        """The budget as plain values."""
        return asdict(self)
