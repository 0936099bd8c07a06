"""The accuracy of every documented network, with privacy and without, over seeds: the table of docs/models.md.

Each plan takes about a minute of one core. With privacy, records are protected at epsilon 8 by central noise; without
privacy, nothing is clipped or noised. Every finished run prints one line of JSON. At the end the table gives, for
each network, its task's figure: the mean over seeds, the least and the largest value. `--set data.path=FOLDER` or
$BRACT_DATA gives the folder of Fashion-MNIST and the plays.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from _bars import arguments, options_of, show

from bract.privacy import override
from bract.server.evaluation.metrics import Score, score_of
from bract.simulations import machine
from bract.simulations.run import simulate, to_json
from bract.simulations.study import Study, make_study, mechanism_for

Settings = tuple[str, ...]

COMMON: Settings = (
    "privacy.unit=record",
    "privacy.noise=central",
    "privacy.epsilon=8",
    "privacy.delta=1e-5",
    "server.averaging=0.9",
    "server.evaluate_every=1000000",
)
FASHION: Settings = (
    "data.name=fashion-mnist",
    "data.split=iid",
    "data.clients=10",
    "cohort.size=10",
    "cohort.rounds=200",
    "training.batch_size=1200",
    "privacy.sampling_rate=0.02",
)
FEWER: Settings = ("cohort.rounds=100", "training.batch_size=600", "privacy.sampling_rate=0.01")
DIABETES: Settings = (
    "data.name=diabetes",
    "data.split=iid",
    "data.clients=10",
    "data.shape=[10]",
    "data.classes=1",
    "cohort.size=10",
    "cohort.rounds=100",
    "training.batch_size=177",
    "privacy.sampling_rate=0.5",
    "privacy.delta=1e-4",
)
PLAYS: Settings = (
    "data.name=shakespeare",
    "data.split=natural",
    "data.clients=20",
    "data.shape=[20]",
    "data.classes=80",
    "cohort.size=20",
    "cohort.rounds=80",
    "training.batch_size=1059",
    "privacy.sampling_rate=0.04",
)
ADAM: Settings = ("server.optimizer=adam", "training.learning_rate=1", "server.learning_rate=0.002")

Plans = tuple[Settings, Settings]
PLANS: dict[str, Plans] = {
    "linear": ((*DIABETES, "training.learning_rate=0.1"), ()),
    "logistic": ((*FASHION, "training.learning_rate=1"), ("training.learning_rate=0.1",)),
    "mlp": ((*FASHION, "training.learning_rate=4"), ("training.learning_rate=0.5",)),
    "cnn": ((*FASHION, *FEWER, "training.learning_rate=3"), ("training.learning_rate=0.5",)),
    "cnn-large": (
        (*FASHION, *FEWER, "cohort.rounds=60", "training.learning_rate=2"),
        ("training.learning_rate=0.2",),
    ),
    "rnn": ((*FASHION, *ADAM), ()),
    "lstm": ((*FASHION, *ADAM, "cohort.rounds=150", "server.learning_rate=0.005"), ()),
    "attention": ((*FASHION, *ADAM, "cohort.rounds=100"), ()),
    "autoencoder": ((*FASHION, *ADAM, "privacy.clip_norm=0.1"), ()),
    "gan": ((*FASHION, "cohort.rounds=300", "training.learning_rate=0.3", "server.averaging=0.98"), ()),
    "gru-lm": ((*PLAYS, *ADAM, "server.learning_rate=0.004"), ()),
    "attention-on-tokens": ((*PLAYS, *ADAM, "model.name=attention"), ()),
}
"""For each row, usually named for its network: the plan's settings, and the settings that differ without privacy."""


def study_of(row: str, private: bool, settings: Sequence[str]) -> Study:
    """Return the study of a row. `settings` override its own."""
    own, unprotected = PLANS[row]
    free = () if private else (*unprotected, "privacy.unit=none")
    return make_study(override({}, [*COMMON, f"model.name={row}", *own, *free, *settings]), row)


def measure(row: str, private: bool, seed: int, settings: Sequence[str]) -> dict[str, object]:
    """Return the result of one training, or the error that ended it."""
    machine.settle()
    about: dict[str, object] = {"row": row, "private": private, "seed": seed}
    try:
        study = study_of(row, private, [f"simulation.seed={seed}", *settings])
        with tempfile.TemporaryDirectory() as folder:
            found = to_json(simulate(study, Path(folder) / "run"))
    except Exception as fault:  # the other runs go on
        return about | {"error": f"{type(fault).__name__}: {fault}"}
    del found["out"]
    multiplier = mechanism_for(study).noise_multiplier if private else None
    return about | {"parameters": study.parameters, "noise_multiplier": multiplier} | found


def summary(rows: Sequence[str], found: Sequence[dict[str, Any]]) -> list[dict[str, object]]:
    """Return one line for each row: its figure without and with privacy."""
    lines = []
    for row in rows:
        runs = [run for run in found if run["row"] == row and "error" not in run]
        scores = {private: _scores(runs, private) for private in (False, True)}
        names = {score.figure.name for score in (*scores[False], *scores[True])}
        cells = {"without": _figure(scores[False]), "with": _figure(scores[True])}
        lines.append({"network": row, "figure": ", ".join(sorted(names))} | cells)
    return lines


def _scores(runs: Sequence[dict[str, Any]], private: bool) -> list[Score]:
    return [score for run in runs if run["private"] == private and (score := score_of(run["figures"] or {}))]


def _figure(scores: Sequence[Score]) -> str:
    if not scores:
        return "-"
    values, show = [score.value for score in scores], scores[0].figure.show
    return f"{show(statistics.mean(values))} ({show(min(values))} to {show(max(values))})"


def main() -> None:
    """Train every network, in `--jobs` processes, and print means and ranges over the seeds."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--models", nargs="+", choices=list(PLANS), default=list(PLANS), help="only these rows")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--kind", choices=["both", "private", "open"], default="both")
    parser.add_argument("--set", action="append", default=[], help="override a key in all plans: cohort.rounds=3")
    options = options_of(parser, set=["cohort.rounds=1"])
    os.environ["OMP_NUM_THREADS"] = "1"
    kinds = {"both": (True, False), "private": (True,), "open": (False,)}[options.kind]
    cases = [(m, k, s, options.set) for s in range(1, options.seeds + 1) for m in options.models for k in kinds]
    found = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for run in as_completed([pool.submit(measure, *case) for case in cases]):
            found.append(run.result())
            print(json.dumps(found[-1]), flush=True)
            print(f"{len(found)} of {len(cases)} runs", file=sys.stderr)
    show(summary(options.models, found), [], options)
    if failed := [run for run in found if "error" in run]:
        raise SystemExit(f"{len(failed)} of {len(cases)} runs failed, the first by {failed[0]['error']}")


if __name__ == "__main__":
    main()
