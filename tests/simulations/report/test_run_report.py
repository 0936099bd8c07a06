"""The report: what it says of each kind of run, and that it is one file that needs and trusts nothing else."""

import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from bract.privacy import BudgetError, StorageError
from bract.server.round_log import RoundRecord
from bract.server.state import ServerState
from bract.server.training import Outcome
from bract.simulations.report.run_report import write_report
from bract.simulations.study import make_study

ROUNDS, HEAD = 4, "ab" * 32
TRUSTED, UNPROTECTED = "none: the server is trusted", "none: nothing is protected"
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page in order, its visible text, and whether all that opens is closed."""

    def __init__(self, source):
        super().__init__()
        self.source, self.elements, self.open, self.words = source, [], [], []
        self.feed(source)
        self.close()
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


def study_of(noise="central", unit="record", seed=None, **data):
    simulation = {} if seed is None else {"seed": seed}
    privacy = {"noise": noise, "unit": unit, "noise_multiplier": 1.2, "epsilon": 8.0, "delta": 1e-4}
    privacy |= {"sampling_rate": 1.0} if unit == "client" else {}
    tables = {"data": data, "cohort": {"rounds": ROUNDS, "size": 10}, "privacy": privacy, "simulation": simulation}
    return make_study(tables | ({"aggregation": {"protocol": "secagg"}} if noise == "distributed" else {}))


def record_of(study, number, accuracy=0.5, survivors=10):
    finite = 1.0 + number / 4 if study.protected else None
    server = None if study.privacy.noise == "central" or finite is None else finite
    return RoundRecord(
        round=number,
        loss=None if accuracy is None else 1.0,
        figures=None if accuracy is None else {"accuracy": accuracy, "f1": accuracy - 0.01, "roc_auc": 0.75},
        epsilon={"server": server, "released": finite},
        cohort=10,
        survivors=survivors,
        codes={"ok": survivors},
        seconds=1.5 * number,
    )


def outcome_of(study, records, stopped=None):
    none = np.zeros(3, np.float32)
    state = ServerState(
        round=len(records),
        parameters=none,
        model=none,
        optimizer={},
        ledger_head=HEAD,
        plan_digest=study.digest,
        seconds=1.5 * len(records),
    )
    none_yet = {"server": None if study.privacy.noise == "central" else 0.0, "released": 0.0}
    spent = records[-1].epsilon if records else none_yet if study.protected else dict.fromkeys(none_yet)
    return Outcome(state, tuple(records), spent, stopped)


def rounds_of(study, count=ROUNDS):
    return [record_of(study, number, accuracy=number / 10) for number in range(1, count + 1)]


@pytest.fixture
def report(tmp_path):
    """A function: the page of a run, parsed."""

    def write(study, records=None, stopped=None):
        path = tmp_path / "report.html"
        write_report(path, study, outcome_of(study, rounds_of(study) if records is None else records, stopped), 1415)
        return Page(path.read_text("utf-8"))

    return write


def headline(page):
    found = re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>", page.source)
    assert len(found) == 5
    return [value for _, value in found]


@pytest.fixture(
    params=[
        {},
        {"noise": "local", "seed": 3},
        {"unit": "none"},
        {"unit": "none", "noise": "local"},
        {"noise": "distributed"},
        {"unit": "client", "noise": "distributed"},
    ],
    ids=["central", "local", "none", "none-local", "distributed", "client-distributed"],
)
def study(request):
    return study_of(**request.param)


@pytest.mark.parametrize("count", [0, 1, ROUNDS])
def test_page_is_well_formed_and_fetches_nothing(report, study, count):
    page = report(study, rounds_of(study, count))
    assert not page.open
    assert page.source.startswith("<!DOCTYPE html>")
    assert "://" not in page.source
    assert not re.search(r"url\((?!#)|@import|javascript:", page.source)
    assert not page.all("script", "link", "img", "image", "iframe", "object", "embed", "base", "form", "a")
    for attributes in page.all("use"):
        assert attributes["xlink:href"].startswith("#")
    assert not any(name.startswith(("on", "src")) for _, attributes in page.elements for name in attributes)
    policy = next(a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


@pytest.mark.parametrize("count", [0, ROUNDS])
def test_page_can_be_read_by_all(report, study, count):
    page = report(study, rounds_of(study, count))
    assert page.all("html") == [{"lang": "en"}]
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for plot in page.all("svg"):
        assert plot["role"] == "img"
        assert plot["aria-label"]


def test_plots_take_all_colours_from_the_page(report):
    source = report(study_of()).source
    plots = "".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    assert plots.count("<svg") == 4
    assert not re.search(r"(fill|stroke): #|<style", plots)


def test_headline_of_a_central_run(report):
    page = report(study_of())
    assert headline(page) == ["40.0%", TRUSTED, "2.000", "0.0001", "one record"]
    assert "The server is trusted." in page.text
    assert "e 2.000 = 7.39" in page.text


def test_headline_of_a_local_run(report):
    page = report(study_of("local"))
    assert headline(page) == ["40.0%", "2.000", "2.000", "0.0001", "one record"]
    assert "Nobody has to be trusted." in page.text
    assert "against the server and against someone who sees only the released models" in page.text
    assert TRUSTED not in page.text


@pytest.mark.parametrize("noise", ["central", "distributed", "local"])
def test_unit_none_promises_nothing(report, noise):
    page = report(study_of(noise, "none", seed=1))
    assert headline(page) == ["40.0%", UNPROTECTED, UNPROTECTED, "none", "none"]
    assert len(page.all("svg")) == 2
    for claim in ("differential privacy", "is protected.", "budget", "trusted"):
        assert claim not in page.text


def test_only_a_seeded_run_is_said_to_be_seeded(report):
    assert "seeded" not in report(study_of()).text
    seeded = report(study_of(seed=0)).text
    assert "For study, not for release" in seeded
    assert "Run without a seed, the same plan guarantees" in seeded
    assert "Whoever knows the seed, 0, can recompute and subtract the noise" in seeded


def test_what_is_not_covered(report):
    text = report(study_of()).text
    for limit in ("A person with several records", "hyper-parameters", "Who took part", "Poisoned inputs"):
        assert limit in text


def test_all_text_of_the_plan_is_escaped(report):
    hostile = "\"'><script>alert(1)</script><img src=x onerror=y>&amp;\n</td></style>{unit}\u202e\udc80"
    page = report(study_of(name="files", path=hostile, seed=2))
    assert not page.open
    assert not page.all("script", "img")
    assert "<script>alert(1)</script><img src=x onerror=y>&amp;\\n</td></style>{unit}" in page.text


def test_stopped_run_says_why(report):
    study = study_of()
    reason = BudgetError("round 3 would cost <too> much", "stop here & now")
    page = report(study, rounds_of(study, 2), reason)
    assert "Stopped after 2 of 4 rounds: round 3 would cost <too> much. What to do: stop here & now." in page.text
    assert "Stopped" not in report(study).text


def test_run_of_no_rounds(report):
    page = report(study_of(), [], BudgetError("no", "more"))
    assert headline(page) == ["not measured", TRUSTED, "0.000", "0.0001", "one record"]
    assert "No round was finished" in page.text
    assert "0.000 of 8 is spent, 8.000 is left" in page.text
    assert headline(report(study_of("local"), []))[1:3] == ["0.000", "0.000"]
    assert headline(report(study_of(unit="none"), []))[1:3] == [UNPROTECTED, UNPROTECTED]


def points_of(page, plot):
    """How many points the first curve of a plot has."""
    drawn = re.search(f'aria-label="{plot}.*?</svg>', page.source, re.DOTALL).group()
    legend = "budget" in drawn
    return len(re.findall("<use [^>]*var\\(--accent\\)", drawn)) - legend


def test_rounds_without_a_test_are_left_out_of_its_curve(report):
    study = study_of()
    records = [record_of(study, n, accuracy) for n, accuracy in enumerate((None, 0.25, None, 0.75, None), 1)]
    page = report(study, records)
    assert headline(page)[0] == "75.0%"
    assert "25.0% when it was first measured, 75.0% when it was last measured" in page.text
    assert points_of(page, "Line plot of accuracy") == 2
    assert points_of(page, "Line plot of epsilon") == 5


def test_quality_never_measured(report):
    study = study_of()
    page = report(study, [record_of(study, n, None) for n in range(1, 4)])
    assert headline(page)[0] == "not measured"
    assert "Quality was not measured in any round." in page.text
    assert "Loss" not in page.text
    assert len(page.all("svg")) == 3


def test_dropouts_and_codes_are_counted(report):
    study = study_of()
    records = [record_of(study, 1), record_of(study, 2, survivors=7)]
    page = report(study, records)
    assert "chosen 20 times and dropped out 3 times" in page.text
    assert "Dropouts 3" in page.text
    assert "Answers by code ok: 17" in page.text
    assert "Without an answer 3" in page.text


def test_every_key_of_the_plan_is_there(report):
    """And the marks of the ledger."""
    study = study_of(seed=5)
    page = report(study)
    for name, table in study.model_dump().items():
        assert f"[{name}]" in page.text
        for key in table:
            assert f" {key} " in page.text
    assert study.digest in page.text
    assert HEAD in page.text


def test_same_run_gives_the_same_bytes(tmp_path):
    study = study_of("local")
    first, second = tmp_path / "first.html", tmp_path / "second.html"
    for path in (first, second):
        write_report(path, study, outcome_of(study, rounds_of(study)), 1415)
    assert first.read_bytes() == second.read_bytes()


def test_plots_do_not_depend_on_settings_of_the_user(report):
    import matplotlib

    plain = report(study_of()).source
    with matplotlib.rc_context({"font.size": 30, "axes.linewidth": 9, "svg.fonttype": "path"}):
        assert report(study_of()).source == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_report_of_many_rounds_stays_small(report):
    study = study_of()
    records = [record_of(study, n, survivors=10 - n % 3) for n in range(1, 1001)]
    assert len(report(study, records).source) < 400_000


def test_report_that_cannot_be_written_says_so(tmp_path):
    study = study_of()
    with pytest.raises(StorageError):
        write_report(tmp_path / "missing" / "report.html", study, outcome_of(study, []), 1)
