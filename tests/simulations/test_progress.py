"""What a person reads at the end of a run."""

from __future__ import annotations

from dataclasses import replace

from bract.server.round_log import RoundRecord
from bract.simulations.progress import Progress, summary
from bract.simulations.run import Result
from bract.simulations.study import make_study

RESULT = Result(
    60,
    0.5,
    {"accuracy": 0.871},
    {"server": None, "released": 7.9997},
    1e-4,
    "record",
    "central",
    11,
    1415,
    20.0,
    33.0,
    1,
    "runs/a",
)


def test_the_summary_gives_both_epsilons_and_the_report() -> None:
    text = summary(RESULT)
    assert "87.1%" in text
    assert "8.000 for each record at delta 0.0001, to whoever sees only the released models" in text
    assert "none: the server is trusted, to the server" in text
    assert "runs/a/report.html" in text
    assert "stopped" not in text


def test_the_summary_of_other_runs_says_what_differs() -> None:
    local = replace(RESULT, noise="local", epsilon={"server": 2.5, "released": 2.5})
    assert summary(local).count("2.500 for each record") == 2
    bare = replace(RESULT, unit="none", epsilon={"server": None, "released": None}, delta=None, figures={})
    assert summary(bare).count("none: nothing is protected") == 2
    assert summary(bare).startswith("quality     none: not measured, or not finite\n")
    rebuilt = replace(RESULT, figures={"mse": 0.01234, "psnr": 19.1})
    assert summary(rebuilt).startswith("reconstruction error 0.01234 on test records")
    assert "stopped     the budget ended" in summary(replace(RESULT, stopped="the budget ended"))


def test_progress_can_be_told_of_a_run_without_a_terminal(capsys) -> None:
    record = RoundRecord(1, None, None, {"server": None, "released": 1.0}, 11, 11, {"ok": 11}, 0.1)
    for shown in (True, False):
        with Progress(make_study({}), shown=shown) as progress:
            progress.answered()
            progress.finished_round(record)
            progress.finished_round(replace(record, round=2, figures={"accuracy": 0.5}))
    assert capsys.readouterr().err == ""
