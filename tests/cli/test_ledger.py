"""`bract ledger`: a ledger that plans share is made, and any ledger is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bract.cli.main import run
from bract.client.disk.device_ledger import LEDGER_FILE, OwnerLedger
from bract.client.terms import Terms
from bract.privacy import Budget, Composed, Entry, Event, Gaussian, Ledger, Plan, Unbounded, make_plan
from bract.privacy.accounting.accountant import epsilon
from bract.privacy.ledger.entries import Origin
from bract.privacy.ledger.ledger import PopulationLedger, new_population

EVENT = Gaussian(8.0)
BUDGET = Budget(6.0, 1e-5, "record", "server")
Capture = pytest.CaptureFixture[str]


def cost(count: int, delta: float = 1e-5) -> float:
    return epsilon(Composed(EVENT, count), delta)


def entry(number: int, *clients: int, server: Event = EVENT) -> Entry:
    return Entry(number, f"r{number}", tuple(map(str, clients or (1,))), server, EVENT)


def said(capsys: Capture, *words: object) -> str:
    assert run(["ledger", *map(str, words)]) == 0
    return capsys.readouterr().out


def read(capsys: Capture, path: Path, *more: object) -> dict[str, Any]:
    [line] = said(capsys, "show", path, *more, "--json").splitlines()
    return json.loads(line)


def refused(capsys: Capture, code: int, *words: object) -> str:
    assert run(["ledger", *map(str, words)]) == code
    out = capsys.readouterr()
    assert out.out == ""
    lines = out.err.strip().splitlines()
    assert [line.split(": ")[0] for line in lines] == ["error", "hint"], out.err
    return lines[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a device that took part in two rounds."""
    spending = OwnerLedger(tmp_path / "state", Terms(clear_updates=True))
    plan = make_plan({"privacy": {"noise": "local", "noise_multiplier": 20.0}, "data": {"clients": 11}}, Plan)
    for number in (1, 2):
        spending.charge(plan, 7, number)
    return spending.folder


class TestNew:
    def test_makes_a_ledger_with_the_budget_that_it_is_told(self, path: Path, capsys: Capture) -> None:
        words = ["--epsilon", 6, "--delta", 1e-5, "--unit", "client", "--view", "released"]
        out = said(capsys, "new", path, *words)
        assert out == (
            f"{path} has a budget of epsilon 6 at delta 1e-05 for each client,"
            " against whoever sees only the released models\n"
        )
        budget = Budget(6.0, 1e-5, "client", "released")
        with PopulationLedger(path, budget, Origin("p", "r")) as ledger:
            assert ledger.budget == budget

    def test_leaves_what_is_there_as_it_is(self, path: Path, capsys: Capture) -> None:
        path.write_text("something else")
        assert "is there already" in refused(capsys, 2, "new", path, "--epsilon", 6, "--delta", 1e-5)
        assert path.read_text() == "something else"

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--epsilon", 0, "--delta", 1e-5], "no budget"),
            (["--epsilon", "nan", "--delta", 1e-5], "no budget"),
            (["--epsilon", 6, "--delta", 1], "no budget"),
            (["--epsilon", 6], "--delta"),
            (["--delta", 1e-5], "--epsilon"),
            (["--epsilon", 6, "--delta", 1e-5, "--unit", "person"], "--unit"),
            (["--epsilon", 6, "--delta", 1e-5, "--view", "nobody"], "--view"),
        ],
    )
    def test_refuses_what_is_no_budget(self, path: Path, capsys: Capture, words: list[object], named: str) -> None:
        assert named in refused(capsys, 2, "new", path, *words)
        assert not path.exists()


class TestShow:
    def test_says_of_a_run_what_the_client_lost_that_lost_most(self, path: Path, capsys: Capture) -> None:
        with Ledger(path, BUDGET, "a" * 64) as ledger:
            ledger.spend(entry(1, 1, 2))
            ledger.spend(entry(2, 2, 3))
            head = ledger.head
        found = read(capsys, path)
        assert found == {
            "kind": "run",
            "budget": BUDGET.to_json(),
            "spent": {"server": cost(2), "released": cost(2)},
            "entries": 2,
            "clients": 3,
            "most": 2,
            "shares": [{"plan": "a" * 64, "run": "", "entries": 2, "clients": 3}],
            "head": head,
        }
        assert said(capsys, "show", path).splitlines() == [
            f"ledger      of a run, whole: 2 releases, last line {head}",
            "budget      epsilon 6 at delta 1e-05 for each record, against the server",
            f"spent       epsilon {cost(2):.4g} at delta 1e-05, against the server",
            f"            epsilon {cost(2):.4g} at delta 1e-05, against whoever sees only the released models",
            "clients     3, each in at most 2 releases; spent is what one lost at most",
            f"plan        {'a' * 16}: 2 releases",
        ]

    def test_has_no_figure_where_the_server_is_trusted(self, path: Path, capsys: Capture) -> None:
        with Ledger(path, Budget(6.0, 1e-5, "record", "released"), "a" * 64) as ledger:
            ledger.spend(entry(1, server=Unbounded()))
        assert read(capsys, path)["spent"] == {"server": None, "released": cost(1)}
        assert "spent       without a bound, against the server" in said(capsys, "show", path)

    def test_has_no_budget_where_there_is_none(self, path: Path, capsys: Capture) -> None:
        with Ledger(path, Budget(None, 1e-5, "record", "server"), "a" * 64):
            pass
        assert "budget      without a bound at delta 1e-05" in said(capsys, "show", path)

    def test_says_of_a_population_what_each_run_of_each_plan_had(self, path: Path, capsys: Capture) -> None:
        """Of each client's budget, run by run."""
        new_population(path, BUDGET)
        origins = [Origin("a" * 64, "first"), Origin("a" * 64, "second"), Origin("b" * 64, "third")]
        for count, origin in enumerate(origins, 1):
            with PopulationLedger(path, BUDGET, origin) as ledger:
                for number in range(count):
                    ledger.spend(entry(number, *range(1, count + 1)))
        found = read(capsys, path)
        assert found["kind"] == "population"
        assert found["spent"]["server"] == cost(6)
        assert found["shares"] == [
            {"plan": origin.plan, "run": origin.run, "entries": count, "clients": count}
            for count, origin in enumerate(origins, 1)
        ]
        assert f"plan        {'b' * 16}, run third: 3 releases" in said(capsys, "show", path)

    def test_says_of_a_device_what_its_owners_terms_leave(self, state: Path, tmp_path: Path, capsys: Capture) -> None:
        (tmp_path / "terms.toml").write_text("max_epsilon = 2\nmax_delta = 1e-6\n")
        bare, priced = (
            read(capsys, state / LEDGER_FILE, *more) for more in ([], ["--terms", tmp_path / "terms.toml"])
        )
        assert bare["kind"] == "device"
        assert (bare["entries"], bare["most"], bare["shares"][0]["run"]) == (2, 2, "7")
        assert list(bare["spent"]) == ["charged"]
        assert 0 < bare["spent"]["charged"] < priced["spent"]["charged"]
        assert (priced["budget"]["epsilon"], priced["budget"]["delta"]) == (2.0, 1e-6)
        text = said(capsys, "show", state / LEDGER_FILE, "--terms", tmp_path / "terms.toml")
        assert "budget      epsilon 2 at delta 1e-06, by the owner's terms" in text
        assert "in the view that each plan's budget limits" in text
        assert "give them with --terms" in said(capsys, "show", state / LEDGER_FILE)

    def test_reads_a_ledger_in_use_and_leaves_a_torn_line(self, path: Path, capsys: Capture) -> None:
        """Another process spends into it meanwhile."""
        with Ledger(path, BUDGET, "a" * 64) as ledger:
            ledger.spend(entry(1))
            assert read(capsys, path)["entries"] == 1
            torn = path.read_bytes() + b'{"round":2'
            path.write_bytes(torn)
            assert read(capsys, path)["entries"] == 1
        assert path.read_bytes() == torn

    def test_names_the_line_that_is_damaged(self, path: Path, capsys: Capture) -> None:
        with Ledger(path, BUDGET, "a" * 64) as ledger:
            ledger.spend(entry(1))
        path.write_bytes(path.read_bytes().replace(b"8.0", b"9.0"))
        assert "damaged at line 2" in refused(capsys, 4, "show", path)

    def test_refuses_what_is_no_ledger(self, path: Path, tmp_path: Path, capsys: Capture) -> None:
        assert "cannot read" in refused(capsys, 5, "show", path)
        assert "cannot read" in refused(capsys, 5, "show", tmp_path)
        path.write_text("")
        assert "holds no ledger" in refused(capsys, 4, "show", path)
        path.write_text("# a plan\n")
        assert "holds no ledger" in refused(capsys, 4, "show", path)
        path.write_text('{"format": 1, "hash": ""}\n')
        assert "damaged at line 1" in refused(capsys, 4, "show", path)


def test_terms_for_a_ledger_of_no_device_are_not_passed_over(path: Path, tmp_path: Path, capsys: Capture) -> None:
    with Ledger(path, BUDGET, "a" * 64):
        pass
    (tmp_path / "terms.toml").write_text("max_epsilon = 1.0\n")
    assert "the ledger of a run" in refused(capsys, 2, "show", path, "--terms", tmp_path / "terms.toml")


@pytest.mark.parametrize("words", [[], ["terms"]])
def test_without_a_word_the_help_is_all_that_is_said(words: list[str], capsys: Capture) -> None:
    assert run(words) == 2
    said = capsys.readouterr()
    assert "Usage:" in said.out + said.err
    assert "error:" not in said.err


def test_without_a_command_it_says_what_is_missing(capsys: Capture) -> None:
    assert "missing command" in refused(capsys, 2)
