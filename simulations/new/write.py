"""Writes a proposed plan as TOML with comments."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from .propose import Proposal

WORDS = {
    "data.name": "your own file or folder",
    "data.path": "relative to this plan",
    "data.label": "the column to predict",
    "data.client": "the column that says whose record it is",
    "data.features": "the columns that the network sees, in its order",
    "data.shape": "numbers of one record",
    "data.classes": "1: a number to predict",
    "data.labels": "the classes by name, in order",
    "data.tokens": "what is predicted, one after another",
    "data.vocabulary": "the characters that are told apart",
    "data.split": "natural: by owner; iid: at random",
    "data.holdout_unit": "some records of each client are for testing, not whole clients",
    "data.holdout": "the share for testing",
    "data.clients": "clients that train",
    "data.records": "training records of all clients, at least",
    "training.batch_size": "expected records in a step, over all clients",
    "training.learning_rate": "2 / clip_norm (1 / clip_norm for numbers to predict)",
    "cohort.rounds": "as many that each record is in about 25 of them, at most 400",
    "aggregation.protocol": "the server sees masked updates, and opens their sum",
    "simulation.masks": "the same sums, faster; a deployment always masks",
    "privacy.unit": "what is protected: each record, or each client with all its records",
    "privacy.noise": "central: the server is trusted with the sums; distributed: nobody is",
    "privacy.delta": "the largest power of ten below 1 / (2 records)",
    "privacy.clip_norm": "the most that one record can move a sum",
    "privacy.sampling_rate": "the probability that a record is in a step",
    "server.averaging": "the average of the last models is tested and kept",
}
"""What each key means, for those who read the plan."""


def to_toml(proposal: Proposal, title: str) -> str:
    """Return the plan as TOML text with comments; reading it gives the proposal's tables."""
    lines = [f"# A plan for {title}, proposed by `bract new` (bract {version('bract')})."]
    lines += [f"# - {notice}" for notice in proposal.notices]
    if proposal.statistics:
        lines.append("# - Constants in [data] come from the data, so they are not public: replace them by public")
        lines.append("#   ones before a deployment, or propose a plan with --public.")
    lines.append(f"# Forecast: {forecast(proposal)}.")
    for name, table in proposal.tables.items():
        lines += ["", f"[{name}]"]
        lines += [_line(name, key, value) for key, value in table.items() if key != "columns"]
        if "columns" in table:
            lines += ["", f"[{name}.columns]"]
            lines += [f"{_key(key)} = {_value(rule)}" for key, rule in table["columns"].items()]
    return "\n".join(lines) + "\n"


def forecast(proposal: Proposal) -> str:
    """Return what the budget buys, in words.

    Reference: docs/budget.md, "Forecast".
    """
    found, privacy = proposal.forecast, proposal.study.privacy
    words = {"works": "the noise costs little accuracy", "hard": "the noise costs accuracy"}
    verdict = words.get(found.verdict, "the noise hides what there is to learn")
    return f"at epsilon {privacy.epsilon:g} {verdict} (noise to signal {found.ratio:.2g} over the training)"


def _line(table: str, key: str, value: Any) -> str:
    words = WORDS.get(f"{table}.{key}")
    return f"{key} = {_value(value)}" + (f"  # {words}" if words else "")


def _key(name: str) -> str:
    return name if name.replace("_", "").isascii() and name.replace("_", "").isalnum() else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
