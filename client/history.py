"""What a node remembers of a run in its own memory: how many rounds it took part in, the last one, the plan."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context

from ..privacy import Plan, PlanError

HISTORY = "bract.history"
"""Its name in Flower's context."""


def read_history(context: Context, plan: Plan) -> tuple[int, int]:
    """Return how many rounds of the run the node took part in and the last one's number.

    Raises:
        PlanError: the server changed the plan within the run.
    """
    if HISTORY not in context.state:
        write_history(context, 0, 0, plan)
    history = context.state.config_records[HISTORY]
    if history["plan"] != plan.digest:
        raise PlanError("the server changed the plan within a run", "start a new run for a new plan")
    return int(str(history["rounds"])), int(str(history["last"]))


def write_history(context: Context, rounds: int, last: int, plan: Plan) -> None:
    """Note how many rounds of the run the node took part in, and the last one's number."""
    context.state[HISTORY] = ConfigRecord({"rounds": rounds, "last": last, "plan": plan.digest})
