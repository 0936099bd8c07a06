"""The one error class of per-example clipping. It imports neither the plan nor pydantic."""

from __future__ import annotations

from ...privacy.errors import PlanError


class ClippingError(PlanError):
    """A network's per-example gradients cannot be clipped, or not by the engine that the plan asks for.

    A plan names the network, so this is a fault of the plan. A device answers with the code `plan`, and the command
    line exits with the code of a faulty plan. Whether it is raised depends on the network, the loss, the shapes of
    the records and the machine, never on a record.
    """
