"""The text of a plan may come from a server: what it costs to read, and what a message shows of it, is bounded."""

from __future__ import annotations

import contextlib
import tomllib
from typing import Any

import pytest

from bract.privacy import Plan, PlanError, mechanism_of, parse_tables
from bract.privacy.accept import accept_offer, accept_plan
from bract.privacy.errors import printable
from bract.privacy.plan import toml as plan_file
from bract.privacy.plan.toml import MOST_CHARACTERS, MOST_FAULTS

DOTTED = ".".join("a" * 30_000)


def fault(text: str) -> str:
    with pytest.raises(PlanError) as caught:
        accept_plan(text)
    return caught.value.what


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("".join(f"[t{n}]\n" for n in range(400_000)), "more than 65,536 characters"),
        ("#" * MOST_CHARACTERS + "\n", "more than 65,536 characters"),
        (f"[a]\n{DOTTED}=1", "more than 100 dots"),
        (f"[{DOTTED}]", "more than 100 dots"),
    ],
    ids=["tables", "comment", "key", "header"],
)
def test_what_takes_long_to_parse_is_refused_first(monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    """Before it is parsed."""

    def parse(text: str) -> Any:
        raise AssertionError("parsed")

    monkeypatch.setattr(plan_file.tomllib, "loads", parse)
    assert said in fault(text)


@pytest.mark.parametrize(
    "text",
    [
        "[a]\nb = " + "[" * 30_000 + "]" * 30_000,
        "[a]\nb = " + "[" * 300 + "]" * 300,
        "[cohort]\nrounds = " + "{a=" * 50 + "1" + "}" * 50,
        "[cohort.rounds.a.b.c.d]",
        "[data]\nshape = [[[[1]]]]",
    ],
)
def test_tables_and_lists_lie_no_deeper_than_a_plan_needs(text: str) -> None:
    what = fault(text)
    assert "tables within tables" in what or "recursion" in what


def test_no_more_faults_are_put_into_words_than_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asks for the nearest word that there is, which is what takes long."""
    asked: list[str] = []
    nearest = plan_file._nearest
    monkeypatch.setattr(plan_file, "_nearest", lambda word, *rest: asked.append(word) or nearest(word, *rest))
    tables = "".join(f"[t{n:x}]\n" for n in range(3000)) + "[cohort]\n" + "".join(f"k{n:x}=1\n" for n in range(3000))
    what = fault(tables)
    assert "has 6000 faults" in what
    assert what.count(";") == MOST_FAULTS
    assert what.endswith("; and 5990 more")
    assert len(asked) == MOST_FAULTS


def test_ten_faults_are_listed_in_full() -> None:
    what = fault("".join(f"[t{n}]\n" for n in range(10)))
    assert "has 10 faults" in what
    assert "more" not in what
    assert "[t9] is not a table" in what


@pytest.mark.parametrize(
    "text",
    [
        "[" + "k" * 60_000 + "]",
        "[cohort]\n" + "k" * 60_000 + " = 1",
        "[cohort]\nrounds = '" + "k" * 60_000 + "'",
        "k" * 60_000 + " = 1",
        "[data]\nshape = [" + "1," * 30_000 + "]",
    ],
)
def test_of_a_long_value_a_message_shows_how_it_begins(text: str) -> None:
    assert len(fault(text)) < 400


def test_no_plan_ends_a_line_or_steers_a_terminal() -> None:
    what = fault('["a\\u001b[2J\\nerror: all is well\\u202e"]\n')
    assert all(c.isprintable() for c in what)
    for text in ('[model]\nname = "a\\u001b]0;x\\u0007"\nx = 1', '[cohort]\nrounds = "\\u009b\\u2066\\r\\n"'):
        assert fault(text).isprintable()


def test_text_is_printable_whatever_it_is() -> None:
    everything = "".join(map(chr, [*range(0x3000), 0xFEFF, 0xE0001, 0xD800]))
    assert printable(everything).isprintable()
    assert printable("Grüße, 数据") == "Grüße, 数据"


def test_an_offered_plan_says_its_noise() -> None:
    """So that no device searches for it."""
    with pytest.raises(PlanError, match="noise multiplier"):
        accept_offer("[cohort]\nrounds = 10000000\n")
    resolved = accept_plan("[cohort]\nrounds = 3\n").plan
    assert accept_offer(resolved.offered()).plan == resolved
    assert tomllib.loads(resolved.offered())["privacy"]["noise_multiplier"] == mechanism_of(resolved).noise_multiplier


@pytest.mark.parametrize("key", ["records", "clients", "seed", "classes"])
def test_a_number_too_large_for_a_float_is_a_fault_or_nothing(key: str) -> None:
    """It is a fault of the plan, with no traceback."""
    with contextlib.suppress(PlanError):
        accept_offer(f"[data]\n{key} = 1{'0' * 400}\n[privacy]\nnoise_multiplier = 3.0")


def test_too_many_steps_are_refused_before_they_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred million steps took a device 22 seconds, at each message."""

    def sought(event: Any, delta: float) -> float:
        raise AssertionError("accounted for")

    monkeypatch.setattr("bract.privacy.mechanisms.base.epsilon", sought)
    steps = "[training]\nlocal_steps = 100000\n[cohort]\nrounds = 1024\n"
    tables = f"{steps}[privacy]\nnoise = 'local'\nnoise_multiplier = 50.0\n"
    assert "102400000 noised steps" in fault(tables)


@pytest.mark.parametrize(
    "text",
    [
        '["at line 99999"]\n["at line 99999"]\n',
        'a = {"at line 5555" = 1, "at line 5555" = 2}',
        f"[data]\nseed = 0x{'f' * 5000}\n",
        f"[data]\nclients = 0x{'f' * 5000}\n",
        f"[privacy]\nepsilon = 0x{'f' * 5000}\n",
    ],
)
def test_what_a_hint_is_sought_for_cannot_break_it(text: str) -> None:
    """A line number in a key, and numbers too long for Python to write: each is a fault of the plan in two lines."""
    assert fault(text)


def test_minus_zero_is_zero_for_the_digest_too() -> None:
    """Equal plans share one mechanism: with two digests a device would count under one that it was not offered.

    The plans are read with no mechanism, because a cache of mechanisms gives the second plan the first one's.
    """
    plain, minus = (
        Plan.model_validate(
            parse_tables(
                f"[aggregation]\ndropouts = {zero}\n[server]\nmomentum = {zero}\n[privacy]\nnoise_multiplier = 90.0\n"
            )
        )
        for zero in ("0.0", "-0.0")
    )
    assert plain.digest == minus.digest
    assert plain.offered() == minus.offered()
