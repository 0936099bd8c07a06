"""A node's history in Flower's memory: its plan, its participations under that plan, its run, and its last round.

Flower may lose this memory, or keep it from one run to the next. A real device therefore counts on its disk too, see
`disk/device_ledger.py`.
"""

from __future__ import annotations

from flwr.app import ConfigRecord, Context

from ..privacy import Plan, PlanError

HISTORY = "bract.history"
"""The name of the history in Flower's context."""


def read_history(context: Context, run: int, plan: Plan) -> tuple[int, int]:
    """Return the node's participations under the plan, over all runs, and its last round in this run, or 0.

    Raises:
        PlanError: the server changed the plan within the run.
    """
    if HISTORY not in context.state:
        write_history(context, 0, 0, run, plan)
    history = context.state.config_records[HISTORY]
    same_run, same_plan = history["run"] == str(run), history["plan"] == plan.digest
    if same_run and not same_plan:
        raise PlanError("the server changed the plan within a run", "start a new run for a new plan")
    if not same_run:
        write_history(context, int(str(history["rounds"])) if same_plan else 0, 0, run, plan)
        history = context.state.config_records[HISTORY]
    return int(str(history["rounds"])), int(str(history["last"]))


def write_history(context: Context, rounds: int, last: int, run: int, plan: Plan) -> None:
    """Store the number of rounds under the plan that the node took part in, and its last round in this run."""
    record = {"rounds": rounds, "last": last, "run": str(run), "plan": plan.digest}
    context.state[HISTORY] = ConfigRecord(record)
