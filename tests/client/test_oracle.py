"""What a device answers, charges, notes and does must not tell one of its records: it all leaves without noise.

A server chooses plan, network and parameters, so whatever fails, or is done at all, only where a record is left tells
whether there is one. Each case goes through the real ClientApp, with and without one record more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from devices import make_message, make_offer, node_context, packed_array
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from bract.client import app as client_app
from bract.client import local_sgd as updates
from bract.client import train
from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.device_ledger import LEDGER_FILE, OwnerLedger
from bract.client.records import Records, fitting
from bract.client.terms import Terms
from bract.client.train import Task, contribution, try_training
from bract.models import NETWORKS, Network, build, objective_of, read_flat
from bract.privacy import BractError, Plan, PlanError, make_plan, mechanism_of
from bract.privacy.mechanisms import local
from bract.privacy.server_view import ANSWER, UPDATE
from bract.simulations.seeded import SeededEntropy

Shape = tuple[int, ...]

SHAPES: list[tuple[str, Shape]] = [
    ("attention", (4,)),
    ("attention", (3, 2)),
    ("autoencoder", (4,)),
    ("cnn", (1, 10, 10)),
    ("cnn-1d", (16, 2)),
    ("scattering-1d", (16, 2)),
    ("cnn-large", (1, 18, 18)),
    ("gan", (4,)),
    ("gru-lm", (4,)),
    ("linear", (4,)),
    ("logistic", (4,)),
    ("lstm", (3, 2)),
    ("mlp", (2, 2)),
    ("ngram", (4,)),
    ("ngram-client", (4,)),
    ("rnn", (3, 2)),
    ("scattering", (1, 8, 8)),
]
TERMS = Terms(max_epsilon=1e9, max_delta=1e-2, trusted_server=True, clear_updates=True, min_round_epsilon=0)


def planned(
    network: tuple[str, Shape],
    classes: int,
    engine: str = "auto",
    cell: str = "record-central",
    **tables: dict[str, Any],
) -> Plan:
    """A plan over two devices of four rounds."""
    unit, noise = cell.split("-")
    sections: dict[str, dict[str, Any]] = {
        "data": {"shape": list(network[1]), "classes": classes, "clients": 2},
        "model": {"name": network[0]},
        "training": {
            "batch_size": 4,
            "engine": engine,
            "local_steps": 2 if unit == "client" or noise == "local" else 1,
        },
        "cohort": {"rounds": 4, "size": 2},
        "privacy": {
            "unit": unit,
            "noise": noise,
            "epsilon": 1e6,
            "delta": 1e-3,
            "sampling_rate": 1.0 if unit == "client" else 0.5,
            "noise_multiplier": 2.0,
        },
        "aggregation": {},
    }
    return make_plan({name: section | tables.get(name, {}) for name, section in sections.items()}, Plan)


def people(plan: Plan, count: int, label: int = 0, scale: float = 1.0) -> Records:
    """So many records of the plan's shape and kind, whose last one has this label, or token, and is of this size."""
    learns, shape = objective_of(plan.model.name, plan.data.shape), plan.data.shape
    features, labels = learns.example(shape, 1, count)
    if count:
        if labels.is_floating_point():
            labels[-1] *= scale
        else:
            labels[-1] = label
        if features.is_floating_point():
            features[-1] *= scale
        else:
            features[-1, -1] = label
    return Records(features, labels)


@dataclass
class Seen:
    """All that a server, the disk, or a clock beside the device could tell of one round."""

    code: str
    words: int
    charges: list[bytes]
    memory: dict[str, Any]
    passes: list[tuple[str, Shape]]


Watch = Callable[..., Seen]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """A function: what is seen of a device with these records that is offered a round of the plan."""
    folders = iter(range(1000))

    def play(plan: Plan, records: Records, **said: Any) -> Seen:
        folder = tmp_path / str(next(folders))
        device = Device(records, TERMS, spending=OwnerLedger(folder, TERMS))
        node, passes = node_context(), list[tuple[str, Shape]]()
        with passing(passes):
            reply = make_app(lambda _: device)(make_message(make_offer(plan, **said)), node)
        charges = (folder / LEDGER_FILE).read_bytes().splitlines()[1:]
        update = reply.content.array_records.get(UPDATE)
        return Seen(
            str(reply.content.config_records[ANSWER]["code"]),
            0 if update is None else len(update[UPDATE].data),
            charges,
            {name: dict(record) for name, record in node.state.config_records.items()},
            passes,
        )

    return play


@contextmanager
def passing(passes: list[tuple[str, Shape]]) -> Iterator[None]:
    """Note which layers are passed through, in order, and with inputs of which shape."""

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        passes.append((type(layer).__name__, tuple(inputs[0].shape)))

    hook = register_module_forward_pre_hook(note)
    try:
        yield
    finally:
        hook.remove()


def warmed(plan: Plan) -> Plan:
    """The plan, once it was tried: a device tries it in its first round only, whatever its records."""
    with suppress(BractError):
        try_training(plan)
    return plan


def short(case: tuple[Any, ...]) -> str:
    return "-".join(str(part) for part in case).replace(" ", "")


CASES = [
    (network, classes, engine, cell)
    for network, classes, engine, cell in product(
        SHAPES,
        (1, 3),
        ("auto", "opacus"),
        ("record-central", "record-local", "client-central", "client-local"),
    )
    if not (network[0] == "linear" and classes > 1) and not (cell.startswith("client") and engine == "opacus")
]
SOME = [case for at, case in enumerate(CASES) if at % 9 == 4]
"""A few of all cases, among them each network and cell; the others are in `make test-full`."""


def matrix() -> list[Any]:
    return [pytest.param(*case, id=short(case), marks=[] if case in SOME else [pytest.mark.full]) for case in CASES]


class TestOneRecordMore:
    @pytest.mark.parametrize(("network", "classes", "engine", "cell"), matrix())
    def test_changes_no_answer_charge_memory_or_pass(
        self, watch: Watch, network: tuple[str, Shape], classes: int, engine: str, cell: str
    ) -> None:
        plan = warmed(planned(network, classes, engine, cell))
        seen = [watch(plan, people(plan, 0))]
        seen += [watch(plan, people(plan, count, label)) for count, label in ((1, 0), (3, classes), (4, -100))]
        seen += [watch(plan, people(plan, 3, scale=scale)) for scale in (float("nan"), 1e38)]
        assert all(each == seen[0] for each in seen[1:])
        assert seen[0].code in ("ok", "plan")
        assert (seen[0].code == "ok") == bool(seen[0].charges)

    @pytest.mark.parametrize("count", [0, 1, 7])
    @pytest.mark.parametrize("cell", ["record-central", "client-central"])
    def test_of_another_shape_or_kind_is_refused_by_its_file(self, watch: Watch, cell: str, count: int) -> None:
        """The first of the ways: the file's shape was looked at only where records with known labels were left."""
        plan = warmed(planned(("mlp", (2, 2)), 3, cell=cell))
        for label in (0, 99):
            labels = torch.full((count,), label)
            seen = watch(plan, Records(torch.zeros(count, 4), labels))
            assert (seen.code, seen.words, seen.charges, seen.passes) == ("data", 0, [], [])
            assert watch(plan, Records(torch.zeros(count, 2, 2), labels.float())).code == "data"

    @pytest.mark.parametrize("name", ["rnn", "lstm"])
    def test_of_a_network_that_opacus_cannot_train_is_not_looked_at(self, watch: Watch, name: str) -> None:
        """The second: Opacus raised at every batch that was not empty."""
        plan = planned((name, (3, 2)), 3, "opacus")
        for records in (people(plan, 0), people(plan, 4)):
            seen = watch(plan, records)
            assert (seen.code, seen.charges) == ("plan", [])

    @pytest.mark.parametrize("network", [("lstm", (3, 2)), ("attention", (4,)), ("gru-lm", (4,))], ids=str)
    def test_of_one_class_is_trained_on_like_any_other(self, watch: Watch, network: tuple[str, Shape]) -> None:
        """The third: the network was checked, with a label that it does not have, at its first batch."""
        plan = warmed(planned(network, 1))
        none, some = watch(plan, people(plan, 0)), watch(plan, people(plan, 4))
        assert none == some
        assert none.code == "ok"

    def test_does_not_decide_if_a_wrong_length_is_noticed(self, watch: Watch) -> None:
        """The fourth: a client's training loaded the parameters only if there were records."""
        plan = planned(("logistic", (4,)), 3, cell="client-central", model={"parameters": 5})
        for records in (people(plan, 0), people(plan, 4)):
            seen = watch(plan, records, array=packed_array(np.zeros(5)))
            assert (seen.code, seen.charges) == ("plan", [])

    def test_does_not_decide_whether_too_few_parameters_are_noticed(self, watch: Watch) -> None:
        plan = warmed(planned(("logistic", (4,)), 3, cell="client-central"))
        for records in (people(plan, 0), people(plan, 4)):
            seen = watch(plan, records, array=packed_array(np.zeros(5)))
            assert (seen.code, seen.charges, seen.passes) == ("malformed", [], [])

    @pytest.mark.parametrize("cell", ["record-central", "record-local", "client-central"])
    def test_makes_no_pass_more_though_it_fills_a_pass_the_better(self, watch: Watch, cell: str) -> None:
        """Also where there are several passes: their number is that of the file's size, not of the sample's.

        About half of the samples are of 32 records or fewer, which would fit one pass.
        """
        plan = warmed(planned(("mlp", (2, 2)), 3, cell=cell))
        runs = [watch(plan, people(plan, count)).passes for count in (64, 65) for _ in range(6)]
        assert all(each == runs[0] for each in runs)

    @pytest.mark.parametrize("cell", ["record-central", "record-local", "client-central"])
    def test_makes_as_many_passes_whatever_the_labels_of_a_file_are(self, watch: Watch, cell: str) -> None:
        plan = warmed(planned(("mlp", (2, 2)), 3, cell=cell, training={"batch_size": 200}))
        known, unknown = people(plan, 300), people(plan, 300)
        unknown.labels[:] = 3
        seen = [watch(plan, records) for records in (known, unknown)]
        assert seen[0] == seen[1]
        assert len({shape[0] for _, shape in seen[0].passes}) == 1


class Choking(nn.Module):
    """A network that raises at a record that is too large: a fault of one record that nothing foresaw."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.flatten, self.layer = nn.Flatten(), nn.Linear(4, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if bool((features.detach() > 100).any()):
            raise RuntimeError("a record is too large")
        return self.layer(self.flatten(features))


@pytest.fixture
def choking(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Shape]]:
    """The network, by its name and the shape of its records."""
    monkeypatch.setitem(NETWORKS, "choking", Network("choking", lambda shape, classes: Choking(classes)))
    updates._network.cache_clear()
    yield "choking", (4,)
    updates._network.cache_clear()


CELLS = ["record-central", "record-local", "client-central", "client-local"]


class TestARecordWhosePassFails:
    @pytest.mark.parametrize("engine", ["auto", "opacus"])
    @pytest.mark.parametrize("cell", CELLS)
    def test_is_seen_in_the_owners_log_alone(
        self, watch: Watch, choking: tuple[str, Shape], cell: str, engine: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        plan = warmed(planned(choking, 3, engine, cell, privacy={"sampling_rate": 1.0}))
        plain = watch(plan, people(plan, 3))
        assert not caplog.records
        spoilt = watch(plan, people(plan, 3, scale=1e6))
        assert "a record is too large" in caplog.text
        assert cell.startswith("client") or "record 2 of the data counts for nothing" in caplog.text
        assert [each.code for each in (plain, spoilt)] == ["ok", "ok"]
        assert (plain.words, plain.charges, plain.memory) == (spoilt.words, spoilt.charges, spoilt.memory)

    @pytest.mark.parametrize("engine", ["auto", "opacus"])
    def test_takes_only_its_own_part_from_a_sum(self, choking: tuple[str, Shape], engine: str) -> None:
        plan = planned(choking, 3, engine, privacy={"sampling_rate": 1.0})
        bound = mechanism_of(plan).grid.bound
        sums = [central(plan, people(plan, 40, scale=scale)) for scale in (1e6, 1.0)]
        without = central(plan, people(plan, 40).select(np.arange(40) < 39))
        assert np.abs(sums[0] - without).max() < 1e-6 * bound
        assert np.abs(sums[1] - without).max() > 1e-3 * bound

    def test_makes_the_whole_change_of_a_client_zero(self, choking: tuple[str, Shape]) -> None:
        plan = planned(choking, 3, cell="client-central")
        assert central(plan, people(plan, 9)).any()
        assert not central(plan, people(plan, 9, scale=1e6)).any()

    @pytest.mark.parametrize("engine", ["auto", "opacus"])
    @pytest.mark.parametrize("cell", ["record-central", "client-central"])
    def test_leaves_nothing_behind_for_the_rounds_to_come(
        self, choking: tuple[str, Shape], cell: str, engine: str
    ) -> None:
        plan, state = warmed(planned(choking, 3, engine, cell, privacy={"sampling_rate": 1.0})), torch.get_rng_state()
        before = central(plan, people(plan, 9))
        central(plan, people(plan, 9, scale=1e6))
        assert np.array_equal(central(plan, people(plan, 9)), before)
        assert torch.equal(torch.get_rng_state(), state)


def central(plan: Plan, records: Records) -> np.ndarray:
    """What a device with these records sends in the first round of a plan whose noise the server adds."""
    parameters = read_flat(build(plan.model.name, plan.data.shape, plan.data.classes, seed=0))
    task = Task(mechanism_of(plan), parameters, fitting(records, plan), SeededEntropy(7).keystream)
    return contribution(task).vector


@pytest.mark.parametrize("cell", ["record-local", "client-local"])
def test_a_fault_in_the_noise_sends_nothing(watch: Watch, monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    """Its cause is no record, so the answer tells of none; an update without its noise would tell all."""

    def failing(*_: object) -> np.ndarray:
        raise RuntimeError("no noise")

    monkeypatch.setattr(local, "gaussian", failing)
    plan = warmed(planned(("logistic", (4,)), 3, cell=cell))
    seen = [watch(plan, records) for records in (people(plan, 0), people(plan, 5))]
    assert [(each.code, each.words) for each in seen] == [("failed", 0)] * 2


def test_an_untrainable_plan_is_refused_before_a_record_is_read(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(("rnn", (3, 2)), 3, "opacus")
    monkeypatch.setattr(client_app, "check_kind", None)
    monkeypatch.setattr(client_app, "fitting", None)
    assert watch(plan, people(plan, 4)).code == "plan"
    with pytest.raises(PlanError, match="Opacus cannot train"):
        try_training(plan)


@pytest.mark.parametrize(("shape", "classes"), [((10**7,), 1000), ((10**7,) * 8, 10**7)])
def test_a_network_that_would_take_all_memory_is_never_built(
    shape: Shape, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "build", None)
    plan = planned(("mlp", (2, 2)), 3)
    data = plan.data.model_copy(update={"shape": shape, "classes": classes})
    with pytest.raises(PlanError, match=r"a device builds at most|cannot be trained"):
        try_training(plan.model_copy(update={"data": data}))


def test_a_trial_is_made_once_for_plans_that_train_alike() -> None:
    passes: list[tuple[str, Shape]] = []
    try_training(planned(("mlp", (2, 2)), 3))
    with passing(passes):
        try_training(planned(("mlp", (2, 2)), 3, cohort={"rounds": 2}))
    assert not passes
