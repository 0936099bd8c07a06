"""What is logged ends no line and steers no terminal, whoever wrote it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from bract.client.app import log as client_log
from bract.privacy import PlanError
from bract.server.app import log as server_log

FOREIGN = "a\x1b[2J\nWARNING all is well\u202e\x07\x9b\u2066"
LOGS = pytest.mark.parametrize("log", [client_log, server_log], ids=["device", "server"])


def entries(caplog: pytest.LogCaptureFixture) -> list[str]:
    formatter = logging.Formatter("%(message)s")
    return [line for record in caplog.records for line in formatter.format(record).split("\n")]


@LOGS
def test_foreign_text_in_a_log_is_one_printable_line(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    log.warning("%s in round %d", FOREIGN, 7)
    log.warning("%s", ValueError(FOREIGN))
    log.warning("%d %s %s", np.int64(3), Path(FOREIGN), {FOREIGN: 1})
    assert len(entries(caplog)) == 3
    assert all(line.isprintable() for line in entries(caplog))
    assert entries(caplog)[0].endswith("in round 7")


@LOGS
def test_no_line_of_a_traceback_looks_like_an_entry(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise KeyError(FOREIGN) from RuntimeError(FOREIGN)
    except KeyError as fault:
        log.warning("failed", exc_info=fault)
    first, *rest = entries(caplog)
    assert first == "failed"
    assert len(rest) > 3
    assert all(line.startswith("| ") and line.isprintable() for line in rest)
    assert any("RuntimeError" in line for line in rest)


@LOGS
def test_a_fault_keeps_its_two_lines(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    log.warning("%s", PlanError(FOREIGN, "mend it"))
    what, hint = entries(caplog)
    assert what.startswith("error: a?[2J")
    assert what.isprintable()
    assert hint == "hint: mend it"
