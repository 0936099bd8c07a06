"""`import bract` from a script: plans, data and networks in all their forms, and what a run answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bract
from bract.models.objectives import REGRESSION
from bract.privacy import BractError, DataError, PlanError
from bract.simulations.notebook.records import columns_of, data_facts, source_of

PLAN = {
    "model": {"name": "mlp"},
    "training": {"batch_size": 30},
    "cohort": {"rounds": 2},
    "data": {"clients": 4},
    "privacy": {"delta": 1e-3},
}


def blobs(count: int = 120, features: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.arange(count) % 3
    noise = np.random.default_rng(0).normal(size=(count, features)) / 3
    return (
        (noise + labels[:, None]).astype(np.float32),
        labels,
        np.repeat([f"ward {k}" for k in range(4)], count // 4),
    )


def build(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A network of one's own."""
    return nn.Sequential(nn.Linear(shape[0], 7), nn.Tanh(), nn.Linear(7, classes))


class Small(nn.Module):
    """A network of one's own as a class without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize("kind", ["arrays", "tensors", "dict", "pandas", "datasets", "npz"])
def test_the_same_records_train_the_same_model_in_every_form(kind: str, tmp_path: Path) -> None:
    import datasets
    import pandas as pd

    x, y, client = blobs()
    columns: dict[str, Any] = {f"x{k}": x[:, k] for k in range(5)}
    columns |= {"label": y, "client": client}
    np.savez(tmp_path / "data.npz", x=x, y=y, client=client)
    forms: dict[str, Callable[[], Any]] = {
        "arrays": lambda: (x, y, client),
        "tensors": lambda: (torch.from_numpy(x), torch.from_numpy(y), list(client)),
        "dict": lambda: {"x": x, "y": y, "client": client},
        "pandas": lambda: pd.DataFrame(columns),
        "datasets": lambda: datasets.Dataset.from_dict(columns),
        "npz": lambda: str(tmp_path / "data.npz"),
    }
    settings = {"data.shape": [5], "data.classes": 3, "cohort.size": 4, "data.split": "natural", "data.clients": 3}
    settings["cohort.size"] = 3
    run = bract.simulate(PLAN, data=forms[kind](), out=tmp_path / kind, seed=1, settings=settings)
    wanted = bract.simulate(PLAN, data=(x, y, client), out=tmp_path / "wanted", seed=1, settings=settings)
    for own, other in zip(run.model().parameters(), wanted.model().parameters(), strict=True):
        assert torch.equal(own, other)


def test_shape_classes_clients_and_cohort_follow_from_the_data(tmp_path: Path) -> None:
    x, y, client = blobs()
    run = bract.simulate({**PLAN, "data": {"holdout": 0.3}}, data=(x, y, client), out=tmp_path / "run", seed=1)
    data = run.plan.data
    assert (data.shape, data.classes, data.clients, data.split) == ((5,), 3, 3, "natural")
    assert run.plan.cohort.size == 3


def test_a_key_that_the_plan_says_is_not_changed_by_the_data(tmp_path: Path) -> None:
    x, y, client = blobs()
    with pytest.raises(DataError, match="the plan's shape"):
        bract.simulate({**PLAN, "data": {"shape": [6]}}, data=(x, y, client), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_words_are_classes_and_floats_are_numbers_to_predict() -> None:
    x, _, _ = blobs(6)
    words = columns_of((x, ["b", "a", "c", "a", "b", "c"]))
    assert data_facts(words, 0.2)["classes"] == 3
    assert source_of(words, (5,), 3).train.labels.tolist() == [1, 0, 2, 0, 1, 2]
    numbers = columns_of((x, np.linspace(0, 1, 6)))
    assert data_facts(numbers, 0.2)["classes"] == 1
    assert source_of(numbers, (5,), 1).train.has_numbers


@pytest.mark.parametrize("network", [build, Small], ids=["function", "class"])
def test_a_network_of_ones_own_trains_and_is_loaded_again(network: Any, tmp_path: Path) -> None:
    x, y, _ = blobs()
    run = bract.simulate(PLAN, data=(x, y), network=network, out=tmp_path / "run", seed=1)
    sizes = [p.numel() for p in run.model().parameters()]
    assert sizes == [p.numel() for p in (build((5,), 3) if network is build else Small()).parameters()]
    again = bract.load(tmp_path / "run", network=network)
    assert np.array_equal(again.predict(x).probabilities, run.predict(x).probabilities)  # pyright: ignore[reportArgumentType]


def test_a_network_with_an_objective_of_its_own_is_a_record(tmp_path: Path) -> None:
    x, _, _ = blobs()
    network = bract.Network("test-line", lambda shape, classes: nn.Linear(shape[0], 1), REGRESSION)
    run = bract.simulate(PLAN, data=(x, x.sum(1)), network=network, out=tmp_path / "run", seed=1)
    assert "rmse" in run.figures
    assert run.predict(x).header() == ["predicted"]


def test_two_networks_of_one_name_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """A notebook runs a cell again after a change: the network that was built before is not used in its place."""

    def made(width: int) -> Callable[..., nn.Module]:
        def own(shape: tuple[int, ...], classes: int) -> nn.Module:
            return nn.Sequential(nn.Linear(shape[0], width), nn.Linear(width, classes))

        return own

    x, y, _ = blobs()
    for width in (2, 3):
        run = bract.simulate(PLAN, data=(x, y), network=made(width), out=tmp_path / str(width), seed=1)
        assert next(run.model().parameters()).shape[0] == width


def test_a_run_answers_what_its_files_say(tiny_plan: Path, tmp_path: Path) -> None:
    run = bract.simulate(tiny_plan, out=tmp_path / "run", seed=1)
    last = run.rounds[-1]
    assert run.epsilon == {"server": None, "released": pytest.approx(last.epsilon["released"])}
    assert run.figures == last.figures
    assert run.report.exists()
    assert "What is guaranteed" in run.card.read_text()
    assert "accuracy" in run._repr_html_()
    assert "<svg" in run.plot()._repr_html_()
    run.plot().save(tmp_path / "plot.html")
    assert "<svg" in (tmp_path / "plot.html").read_text()
    x = np.load(tmp_path / "tiny.npz")["x"]
    assert np.array_equal(bract.predict(run, x).values, bract.predict(tmp_path / "run", tmp_path / "tiny.npz").values)
    assert "<table" in bract.predict(run, x)._repr_html_()
    assert run.predict(x).to_frame().shape == (60, 5)
    assert run.evaluate(tmp_path / "tiny.npz").records == 60
    assert "By class" in run.evaluate((x, np.load(tmp_path / "tiny.npz")["y"]))._repr_html_()
    run.export(tmp_path / "model.pt2")
    assert (tmp_path / "model.pt2").exists()


def test_a_plan_is_a_path_a_name_text_tables_or_a_plan(tiny_plan: Path) -> None:
    text = tiny_plan.read_text()
    path = bract.budget(tiny_plan)
    for form in (str(tiny_plan), text, path.plan):
        assert bract.budget(form).own.cost == path.own.cost
    assert bract.budget("digits-central-eps8").plan.data.name == "digits"
    assert bract.budget(None).plan.aggregation.protocol == "secagg"
    assert bract.budget(tiny_plan, settings={"privacy.epsilon": 2.0}).own.cost.released < path.own.cost.released
    assert "Noise multiplier" in path._repr_html_()


def test_a_sweep_from_python_returns_its_points(tiny_plan: Path, tmp_path: Path) -> None:
    over = {"privacy.epsilon": [2.0, 8.0]}
    found = bract.sweep(tiny_plan, over=over, out=tmp_path / "sweep", jobs=1, settings={"cohort.rounds": 1})
    assert [point.values for point in found.points] == [{"privacy.epsilon": 2.0}, {"privacy.epsilon": 8.0}]
    assert "privacy.epsilon" in found._repr_html_()


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"data": 3}, "no array of numbers"),
        ({"data": (np.zeros((4, 5)), np.zeros(3, int))}, "different lengths: x 4, y 3"),
        ({"data": (np.zeros((4, 5)),)}, "no labels"),
        ({"data": {"features": np.zeros((4, 5))}}, "a member 'features'"),
        ({"data": np.array(["a", "b"])}, "no array of numbers"),
        (
            {"data": (np.zeros((4, 5)), np.zeros(4, int)), "network": nn.Linear(5, 3)},
            "neither a function nor a class",
        ),
        ({"plan": "no-such-plan"}, "there is no plan file"),
        ({"plan": "[data\n"}, "is not toml"),
        ({"plan": {"privacy": {"epsilom": 3}}}, "is not a key"),
        ({"settings": {"epsilon": 3}}, "is not table.key"),
        ({"callbacks": ["nothing"], "data": (np.zeros((4, 5)), np.zeros(4, int))}, "there is no logger nothing"),
    ],
)
def test_bad_input_is_refused_before_a_folder_is_made(given: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(BractError) as fault:
        bract.simulate(**{"plan": PLAN, "out": tmp_path / "run", **given})
    assert what in fault.value.what
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_not_written_to(tiny_plan: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="is not empty"):
        bract.simulate(tiny_plan, out=tmp_path)


def test_the_threads_of_the_notebook_are_given_back(tiny_plan: Path, tmp_path: Path) -> None:
    code = (
        "import torch, bract; torch.set_num_threads(3);"
        f"bract.simulate({str(tiny_plan)!r}, out={str(tmp_path / 'run')!r}); print(torch.get_num_threads())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "3"
