"""`bract budget` as a person types it: what it prints, what it writes, how it says no, and that it stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bract.cli.main import run
from bract.privacy import Plan, make_plan, mechanism_of
from bract.privacy.planning.cost import most_rounds, with_target
from bract.simulations.study import make_study

SHIPPED = ["digits-central-eps8", "digits-distributed-eps8", "fashion-central-eps3", "fashion-distributed-eps3"]

KEYS = ["plan", "unit", "noise", "delta", "budget", "rounds", "cohort", "clients", "participations", "steps"]
KEYS += ["noise_multiplier", "epsilon", "signal", "remedies", "answers", "accountants", "curves"]
CLIENTS = ["privacy.unit=client", "privacy.sampling_rate=1", "data.clients=20", "cohort.size=20"]


def words(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def answered(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert run(["budget", *map(str, arguments), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    [line] = said.out.splitlines()
    return json.loads(line)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    assert run(["budget", *map(str, arguments)]) == code
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert said.out == ""
    assert [line.split(": ")[0] for line in lines] == ["error", "hint"], said.err
    return said.err


def test_json_has_one_object_with_these_keys(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, "digits-distributed-eps8")
    assert list(found) == KEYS
    assert list(found["signal"]) == [
        "parameters",
        "noise",
        "update",
        "steps",
        "kept",
        "step_ratio",
        "ratio",
        "verdict",
    ]
    assert list(found["curves"]) == ["accountant", "rounds", "cohort", "noise_multiplier", "dropouts"]
    assert {tuple(figure) for figure in found["accountants"]} == {
        ("accountant", "epsilon", "reported", "bound", "why")
    }
    assert [figure["reported"] for figure in found["accountants"]] == [True, False, False]
    for axis in ("rounds", "cohort", "noise_multiplier"):
        assert {tuple(point) for point in found["curves"][axis]} == {(axis, "epsilon", "ratio")}
    assert found["answers"] == {}
    assert found["remedies"] == []


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_plan_costs_its_budget_and_works(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, name)
    budget, view = found["budget"]["epsilon"], found["budget"]["view"]
    assert 0.99 * budget <= found["epsilon"][view] <= budget
    assert (found["epsilon"]["server"] is None) == (found["noise"] == "central")
    assert found["signal"]["verdict"] == "works"
    assert found["signal"]["parameters"] == 121_930


def test_it_says_what_a_simulation_of_the_plan_would_be_charged(
    tiny_plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answered(capsys, tiny_plan)
    study = make_study({"data": {"clients": 5, "shape": [1, 12, 12], "classes": 3}, **_tiny_tables()})
    assert found["noise_multiplier"] == mechanism_of(study).noise_multiplier
    assert found["epsilon"]["released"] == mechanism_of(study).cost()
    assert found["signal"]["parameters"] == study.parameters


def _tiny_tables() -> dict[str, dict[str, object]]:
    privacy = {"epsilon": 8.0, "delta": 1e-3, "sampling_rate": 0.5}
    return {"training": {"batch_size": 25}, "cohort": {"rounds": 3, "size": 5}, "privacy": privacy}


def test_it_answers_as_the_library_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """Noise for an epsilon, epsilon for a noise, rounds for an epsilon."""
    found = answered(capsys, "digits-central-eps8", "--epsilon", 2, "--noise", 4, "--rounds-for", 3)["answers"]
    privacy = {"sampling_rate": 0.5, "delta": 1e-4, "noise_multiplier": 4.0, "epsilon": 1e6}
    plan = make_plan({"cohort": {"rounds": 100}, "privacy": privacy}, Plan)
    assert found["for_epsilon"]["target"] == 2
    assert found["for_epsilon"]["noise_multiplier"] == with_target(plan, 2.0).privacy.noise_multiplier
    assert found["for_epsilon"]["epsilon"]["released"] <= 2
    assert found["for_noise"]["epsilon"]["released"] == mechanism_of(plan).cost()
    bought = most_rounds(plan, 3.0)
    assert found["rounds_for"]["noise_multiplier"] == 4
    assert found["rounds_for"]["rounds"] == bought.rounds
    assert found["rounds_for"]["epsilon"] <= 3 < found["rounds_for"]["dearer_epsilon"]


def test_rounds_are_bought_at_the_plans_noise_or_a_given_one(capsys: pytest.CaptureFixture[str]) -> None:
    own = answered(capsys, "digits-distributed-eps8", "--rounds-for", 8)
    assert own["answers"]["rounds_for"]["noise_multiplier"] == own["noise_multiplier"]
    assert own["answers"]["rounds_for"]["rounds"] == own["rounds"]


def test_over_dropouts_the_server_learns_most_from_the_fewest(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, "fashion-distributed-eps3")
    points = found["curves"]["dropouts"]
    assert [point["dropouts"] for point in points] == pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05])
    values = [point["epsilon"]["server"] for point in points]
    assert values == sorted(set(values))
    assert values[-1] == pytest.approx(found["epsilon"]["server"])


def test_twenty_clients_at_epsilon_one_get_a_clear_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["budget", *words(*CLIENTS, "privacy.epsilon=1")]) == 0
    said = capsys.readouterr().out
    assert "cannot work: over all rounds the noise is" in said
    for help_ in ("clients, with as large a share", "an epsilon of about", "single records", "trained parameters"):
        assert help_ in said


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["budget", "digits-central-eps8", "--rounds-for", "4"]) == 0
    said = capsys.readouterr().out
    assert said.isascii()
    assert "\x1b" not in said
    assert all(line == line.rstrip() and len(line) <= 118 for line in said.splitlines())
    assert "8.000 for each record at delta 0.0001, to whoever sees only the released models" in said
    assert "none: the server is trusted, to the server" in said
    assert "buys 30 rounds at noise multiplier 2.8175" in said


def test_a_report_is_one_file_that_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "budget.html"
    assert run(["budget", "--plot", str(path), *words(*CLIENTS, "privacy.epsilon=1")]) == 0
    assert str(path) in capsys.readouterr().out
    source = path.read_text()
    assert "http" not in source.replace("http-equiv", "").replace("http://www.w3.org/1999/xlink", "")
    assert "<script" not in source
    page = _Page(source)
    assert page.svgs == 5
    for text in ("Privacy budget", "This cannot work", "Epsilon over rounds", "Any one of these would help"):
        assert text in page.text
    before = path.read_bytes()
    assert run(["budget", "--plot", str(path), *words(*CLIENTS, "privacy.epsilon=1")]) == 0
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class _Page(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.svgs = "", 0
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == ["html"] or self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.svgs += tag == "svg"
        if tag not in {"meta", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_unknown_network_has_no_forecast_without_its_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = ["digits-central-eps8", *words("model.name=mine")]
    assert answered(capsys, *plan)["signal"] is None
    assert run(["budget", *plan]) == 0
    assert "give --parameters" in capsys.readouterr().out
    assert answered(capsys, *plan, "--parameters", 500)["signal"]["parameters"] == 500
    assert "--parameters" in refused(capsys, "digits-distributed-eps8", *words("model.name=mine"))
    assert (
        answered(capsys, "digits-distributed-eps8", *words("model.name=mine", "model.parameters=99"))["signal"][
            "parameters"
        ]
        == 99
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--epsilon", "1e-12"], "no noise multiplier gives"),
        (["--epsilon", "0"], "privacy.epsilon"),
        (["--epsilon", "nan"], "privacy.epsilon"),
        (["--noise", "0"], "privacy.noise_multiplier"),
        (["--noise", "1e9"], "privacy.noise_multiplier"),
        (["--rounds-for", "0.01"], "one round at noise multiplier"),
        (["--rounds-for", "-1"], "no budget"),
        (["--parameters", "0"], "model.parameters"),
        (["--set", "privacy.unit=none"], "protects nothing"),
        (["--set", "cohort.sise=4"], "cohort.size"),
        (["--set", "privacy.noise_multiplier=0.5"], "cost epsilon"),
        (["--epsilon", "two"], "two"),
        (["no-such-plan"], "no plan file"),
        (["--plot", "no/such/folder/a.html"], "no folder"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_two_lines(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = [] if arguments[0] == "no-such-plan" else ["digits-central-eps8"]
    assert named in refused(capsys, *plan, *arguments, code=5 if "--plot" in arguments else 2)


@pytest.mark.parametrize("extra", [[], ["--plot", "budget.html"]])
def test_it_imports_nothing_that_takes_seconds(extra: list[str], tmp_path: Path) -> None:
    heavy = {
        "torch",
        "flwr",
        "opacus",
        "pandas",
        "sklearn",
        "dp_accounting",
        "scipy.optimize",
        "scipy.signal",
        "scipy.stats",
        "PIL" if not extra else "",
        "matplotlib" if not extra else "",
    }
    code = (
        "import sys; from bract.cli.main import run; code = run(sys.argv[1:]);"
        f"print(code, sorted({heavy!r} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "budget", "--json", *extra]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert done.stderr == ""
