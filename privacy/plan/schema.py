"""The tables of a plan: their keys, the allowed values and the defaults."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Never

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=1e8)]
"""A time to wait: at most three years, which every clock of the system can count."""

Rate = Annotated[float, Field(gt=0, le=1e6)]
"""A learning rate. The limit is far below 3.4e38, the largest float32, and far above any useful rate."""

Count = Annotated[int, Field(ge=1, le=10**7)]

OnlyTrue = Annotated[Literal[True] | None, BeforeValidator(lambda value: None if value is False else value)]
"""A key that is false by default. `false` counts as absent, so both give the same digest."""


def _without(default: object) -> BeforeValidator:
    """Return a validator for which the default counts as absent, so that both give the same digest."""
    return BeforeValidator(lambda value: None if type(value) is type(default) and value == default else value)


Momentum = Annotated[Annotated[float, Field(gt=0, lt=1)] | None, _without(0.0), _without(0)]
Decay = Annotated[Annotated[float, Field(gt=0, le=1)] | None, _without(0.0), _without(0)]
"""A factor that is absent if it is zero."""

MOST_PARAMETERS = 10**9
"""The largest number of parameters of a plan's network."""


MOST_SEED = 2**63 - 1
"""The largest seed."""


class Section(BaseModel):
    """A table of the plan: frozen. An unknown key is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def without_minus_zero(cls, value: object) -> object:
        """Return zero for minus zero: the two are equal, and so must be the digests of equal plans."""
        return value + 0.0 if isinstance(value, float) else value


Pair = Annotated[tuple[float, float], Field(strict=False)]
Words = Annotated[tuple[float | str, ...], Field(strict=False, min_length=1)]
"""Cells of a table: a number stands for every way to write it, a word for itself."""
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)]

UNKNOWN = "<unknown>"
"""The token, if the vocabulary has it, of each character or word that is not in the vocabulary."""

EVERY = "*"
"""The name, in `data.columns`, of all features without an entry of their own."""


class Column(Section):
    """How one column of a table becomes numbers for the network, by public constants alone.

    The steps are, in this order: a cell that is missing, or in `missing`, becomes `fill`; `clip` limits numbers to an
    interval; `scale = [low, high]` maps low to -1 and high to 1; `standardize = [mean, deviation]` subtracts the mean
    and divides by the deviation. With `values` the column holds words: it becomes one number for each of them, 1 for
    the record's own and 0 for the rest. `other` says what any other word becomes: zeros, or a 1 in one more number.
    """

    missing: Words | None = None
    fill: float | str | None = None
    clip: Pair | None = None
    scale: Pair | None = None
    standardize: Pair | None = None
    values: Words | None = None
    other: Literal["zeros", "column"] | None = None

    @property
    def width(self) -> int:
        """How many numbers a cell becomes."""
        return 1 if self.values is None else len(self.values) + (self.other == "column")


class ByName(dict[str, Column]):
    """Columns by name: frozen, and hashable as the plan is."""

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[ByName], tuple[dict[str, Column]]]:
        return ByName, (dict(self),)

    def __setitem__(self, key: str, value: Column) -> Never:
        raise TypeError("the columns of a plan are frozen")

    def __delitem__(self, key: str) -> Never:
        raise TypeError("the columns of a plan are frozen")


class Data(Section):
    """The records: their shape, where a simulation finds them, and how it splits them between clients.

    `records` is a public lower bound on the number of records of all clients. Delta is compared with it. `label`,
    `client`, `features` and `ignore` name columns of a table. `columns` says how columns become numbers, and `labels`
    lists the classes by name, in order. `part` names the column that says which records are for testing, and `test`
    is the path of a file of test records. `tokens` and `vocabulary` are for texts; `window` and `stride` cut tables
    whose lines are the steps of a sequence. `holdout_unit` says whether whole clients or some records of each are
    held out.
    """

    name: str = "digits"
    path: str | None = None
    split: Annotated[
        str,
        Field(
            pattern=r"^(natural|iid|dirichlet:0*([1-9][0-9]*(\.[0-9]+)?|0?\.0*[1-9][0-9]*)|pathological:[1-9][0-9]*)$"
        ),
    ] = "natural"
    clients: Count = 11
    records: Annotated[int, Field(ge=1, le=10**12)] | None = None
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = 0
    shape: Annotated[tuple[Count, ...], Field(strict=False, max_length=8)] = (1, 28, 28)
    classes: Count = 10
    label: Annotated[str, Field(min_length=1)] | None = None
    client: Annotated[str, Field(min_length=1)] | None = None
    features: Names | None = None
    ignore: Names | None = None
    columns: Annotated[dict[str, Column], Field(min_length=1), AfterValidator(ByName)] | None = None
    labels: Words | None = None
    part: Annotated[str, Field(min_length=1)] | None = None
    test: str | None = None
    holdout_unit: Literal["record", "client"] | None = None
    tokens: Literal["characters", "words"] | None = None
    vocabulary: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    window: Count | None = None
    stride: Count | None = None

    @property
    def transforms(self) -> str | None:
        """The SHA-256 of `features` and `columns` in hexadecimal, which marks transformed records; None without."""
        if self.columns is None:
            return None
        facts: dict[str, Any] = self.model_dump(mode="json", exclude_none=True, include={"features", "columns"})
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def rule(self, name: str) -> Column | None:
        """Return how the feature `name` becomes numbers, or None if it stays as it is."""
        rules = self.columns or {}
        return rules.get(name, rules.get(EVERY))


class StudyId(Section):
    """The study's id. A deployment's server draws it once, so that devices account for each study separately.

    A simulation has no id: its result depends on the plan and the seed alone.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


ModelStart = tuple[str | None, tuple[str, ...], tuple[str, ...], int] | None


class Model(Section):
    """The network that is trained, by its documented name, and its number of parameters (filled in if absent).

    `weights` is the path of a .safetensors file that the network starts from, and `weights_digest` the SHA-256 of
    that file (a simulation fills it in). The plan's digest covers the file's digest, not its path. `fresh` and
    `frozen` are patterns of tensors' names, such as `head.*`. Tensors that match `fresh` start at random, whatever
    the file holds; tensors that match `frozen` are not trained. `adapters` is the rank of a trained change beside
    each frozen layer; without `frozen`, all that is not fresh is then frozen. `parameters` counts what is trained.
    """

    name: str = "cnn"
    parameters: Annotated[int, Field(ge=1, le=MOST_PARAMETERS)] | None = None
    weights: str | None = None
    weights_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    fresh: Annotated[Names | None, _without([])] = None
    frozen: Annotated[Names | None, _without([])] = None
    adapters: Annotated[Annotated[int, Field(ge=1, le=1024)] | None, _without(0)] = None

    @property
    def start(self) -> ModelStart:
        """Weights by their digest, what is fresh, what is frozen, and the adapters' rank; None without weights."""
        if self.weights_digest is None:
            return None
        return self.weights_digest, self.fresh or (), self.frozen or (), self.adapters or 0

    @property
    def kept_start(self) -> ModelStart:
        """The start if some of its weights stay as they are, else None: any machine can then build the network."""
        return self.start if self.frozen or self.adapters else None


class Training(Section):
    """The training of a device in one round.

    `batch_size` is public. With unit `record` each step's sum is divided by it: it is the expected number of sampled
    records, on one device for local noise, over the whole cohort for other noise. With unit `client` it is the
    largest number of records in a step, and the step averages over its records. `engine` chooses the code that clips
    records' gradients: with `auto` book-keeping, with `opacus` Opacus. `precision` is the dtype of passes through the
    network on a GPU; parameters, norms and sums are always float32.

    The other keys are for devices that take steps of their own: with unit `client`, or with local noise. `optimizer`
    is SGD or, for unit `client`, Adam; `momentum` is that of SGD; `weight_decay` shrinks the parameters before each
    step; `proximal` is the weight of the distance from the round's model (FedProx).
    """

    local_steps: Count = 1
    batch_size: Count = 350
    learning_rate: Rate = 1.0
    engine: Literal["auto", "opacus"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    optimizer: Annotated[Literal["adam"] | None, _without("sgd")] = None
    momentum: Momentum = None
    weight_decay: Decay = None
    proximal: Annotated[Annotated[float, Field(gt=0, le=1e6)] | None, _without(0.0), _without(0)] = None


class Cohort(Section):
    """The number of devices in a round, and the number of rounds."""

    rounds: Count = 60
    size: Count = 11
    minimum: Count = 1
    deadline: Seconds = 600.0


class Privacy(Section):
    """The unit that is protected, the place of noise, and the budget.

    `clip_norm` bounds the L2 norm of a record's gradient, or of a client's change. `clip_quantile` adapts the clip
    norm of changes: it starts at `clip_norm`, its logarithm moves by at most `clip_rate` a round, and it settles
    where this fraction of the changes is within it (Andrew et al. 2021). With `bands` each round cancels part of the
    noise of the `bands - 1` rounds before, and a client sits out `bands - 1` rounds after each of its rounds.
    `shares` decides about distributed noise that devices add for dropouts that then do not happen. With `floor` this
    noise stays in the sum. With `xnoise` devices add it in layers, and the server removes the layers that are not
    needed. `allow_large_delta` allows a delta of 1/n or more for n units, which publishing one whole unit would
    satisfy.
    """

    unit: Literal["record", "client"] = "record"
    noise: Literal["local", "distributed", "central"] = "central"
    shares: Literal["floor", "xnoise"] = "floor"
    epsilon: Positive = 8.0
    delta: Annotated[float, Field(ge=1e-12, lt=1)] = 1e-4
    allow_large_delta: OnlyTrue = None
    clip_norm: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 0.25
    noise_multiplier: Annotated[float, Field(ge=1e-6, le=1e4)] | None = None
    clip_quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip_rate: Annotated[float, Field(gt=0, le=1)] = 0.2
    bands: Annotated[int, Field(ge=1, le=64)] | None = None

    @property
    def bounds_delta(self) -> bool:
        """Whether delta must be below 1/n for n units: true unless the plan sets `allow_large_delta`."""
        return not self.allow_large_delta


class Aggregation(Section):
    """How devices' vectors become one sum: with `secagg` the server sees only the sum, with `sum` every vector.

    Both add the same integers in the same ring, so they give the same model bit for bit. `colluders` is a fraction
    of the cohort: fewer devices than this fraction collude with the server. `dropouts` is the fraction that may drop
    out; it sizes the graph of more than 1,024 devices and, with the colluders, the noise that each device adds.
    `deadline` is how many seconds the server waits for answers to messages other than training. `bits` is the
    width of one coordinate in the ring. `range` is the largest coordinate of one device's vector (with distributed
    noise: of the sum), in clip norms. If `bits` or `range` is absent, it follows from the rest of the plan.
    """

    protocol: Literal["sum", "secagg"] = "sum"
    mode: Literal["semi-honest", "malicious-server"] = "semi-honest"
    key_exchange: Literal["x25519", "hybrid"] = "x25519"
    colluders: Annotated[float, Field(ge=0, lt=0.5)] = 1 / 3
    dropouts: Annotated[float, Field(ge=0, lt=0.5)] = 0.3
    deadline: Seconds = 120.0
    bits: Literal[12, 16, 21, 32, 64] | None = None
    range: Annotated[float, Field(ge=1e-12, le=1e12)] | None = None


class Server(Section):
    """The server's optimizer, which takes a step with each release: `sgd` or `adam` (FedAdam).

    SGD at rate 1 is FedAvg, with momentum FedAvgM. With `averaging` the model that is tested and kept is an
    exponential average of the models after each step: each model weighs `averaging` times as much as the next one
    (De et al. 2022, section 3.3). Averaging costs no privacy.

    `weight_decay` shrinks the parameters before each step. `schedule` lowers the learning rate to zero over the
    rounds, along a `cosine` or a straight (`linear`) line; before that it rises over the first `warmup` rounds.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Rate = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.0
    evaluate_every: Count = 1
    weight_decay: Decay = None
    schedule: Annotated[Literal["cosine", "linear"] | None, _without("constant")] = None
    warmup: Annotated[Count | None, _without(0)] = None


def least_units(data: Data, training: Training, privacy: Privacy) -> float:
    """Return a lower bound on the number of units, clients or records, from the public plan.

    If `data.records` is absent, the number of records is the expected batch divided by the sampling rate.
    """
    if privacy.unit == "client":
        return data.clients
    return training.batch_size / privacy.sampling_rate if data.records is None else data.records


def gives_one_away(delta: float, units: float) -> bool:
    """Whether delta is 1/n or more for n units: then publishing one random unit in full would satisfy it."""
    return delta * units >= 1
