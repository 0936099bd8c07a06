"""The privacy budget, and the rule by which a cost is refused: `Budget.covers`.

`privacy/accept.py` asks it before training, for all rounds of a plan; `privacy/ledger/ledger.py` asks it before each
charge, on the server and on a device. Both raise an error for a cost that the budget does not cover.
"""

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

    def covers(self, cost: float, slack: float = 0.0) -> bool:
        """Whether a total cost, in epsilon, is within the budget, up to the relative rounding error `slack`.

        Guarantee: a cost that is not a number is not covered, unless there is no limit.
        """
        return self.epsilon is None or cost <= self.epsilon * (1 + slack)

    def to_json(self) -> dict[str, Any]:
        """The budget as plain values."""
        return asdict(self)
