"""The tables of a plan: their keys, what each may be, and what it is by default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1e6)]
"""A learning rate. torch cannot multiply float32 by one beyond 3.4e38, and no network learns at one near it."""

Count = Annotated[int, Field(ge=1, le=10**7)]

OnlyTrue = Annotated[Literal[True] | None, BeforeValidator(lambda value: None if value is False else value)]
"""A key that is false by default: one that is false is as one that is left out, so that the digest is the same."""

MOST_PARAMETERS = 10**9
"""The largest network that a plan can name."""


MOST_SEED = 2**63 - 1
"""The largest seed."""


class Section(BaseModel):
    """A table of the plan: frozen, and a key it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def without_minus_zero(cls, value: object) -> object:
        """Return zero for minus zero: the two are equal, and so must be the digests of equal plans."""
        return value + 0.0 if isinstance(value, float) else value


class Data(Section):
    """What the records are, where a simulation finds them and how it deals them out to clients.

    `records` is how many all clients have, a public number, at least: what delta is compared with.
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


class Named(Section):
    """Which study it is: a deployment's server gives it a random id once, so that devices count each study alone.

    A simulation gives none: it is a function of the plan and the seed.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class Model(Section):
    """Which of the documented networks is trained, and how many parameters it has (filled in where left out)."""

    name: str = "cnn"
    parameters: Annotated[int, Field(ge=1, le=MOST_PARAMETERS)] | None = None


class Training(Section):
    """What a device does in one round.

    `batch_size` is the public number that the sum over one step is divided by: the expected number of sampled
    records, on one device where the noise is local, else over the whole cohort. Where the unit is the client it is
    the most records of a device's step, which then averages over those it has. `engine` is what clips the gradients
    of records: `auto` takes book-keeping for networks all of whose layers it has rules for, `opacus` never does.
    `precision` is that of passes through the network on a GPU; parameters, norms and sums are float32 with either.
    """

    local_steps: Count = 1
    batch_size: Count = 350
    learning_rate: Rate = 1.0
    engine: Literal["auto", "opacus"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"


class Cohort(Section):
    """How many devices take part, and for how many rounds."""

    rounds: Count = 60
    size: Count = 11
    minimum: Count = 1
    deadline: Positive = 600.0


class Privacy(Section):
    """Whom the claim protects, where the noise is added, and the budget.

    With `clip_quantile` the clip norm of a client's change is adapted, from `clip_norm` on and by at most `clip_rate`
    (of its logarithm) a round, until that share of the changes is within it (Andrew et al. 2021). With `bands` each
    round takes back part of the noise of the `bands - 1` before, which a client sits out after each round of its own.
    `shares` says what becomes of the distributed noise that is there in case devices drop out: with `floor` it stays;
    with `xnoise` devices bring it in layers, and those that turn out not to be needed are taken off again.
    With `allow_large_delta` delta may be one part of all units or more, as if one of them could be given away.
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
        """Whether delta must be less than one part of all units: unless the plan allows a larger one."""
        return not self.allow_large_delta


class Aggregation(Section):
    """How the updates become one sum: `secagg` under masks of which only the sum's come off, `sum` in the clear.

    Both add the same whole numbers in the same ring, so they give the same model bit for bit. `colluders` is the
    share of the devices of which fewer work with the server, `dropouts` the share that may drop out (it sizes the
    graph of more than 1,024 devices and, with the colluders, the shares of distributed noise), `deadline` the seconds
    that a message without training waits for answers. `bits` is the width of a lane of the ring and `range` the
    largest coordinate of one device, of the sum where the noise is distributed, in clip norms: both follow from the
    rest of the plan unless given.
    """

    protocol: Literal["sum", "secagg"] = "sum"
    mode: Literal["semi-honest", "malicious-server"] = "semi-honest"
    key_exchange: Literal["x25519", "hybrid"] = "x25519"
    colluders: Annotated[float, Field(ge=0, lt=0.5)] = 1 / 3
    dropouts: Annotated[float, Field(ge=0, lt=0.5)] = 0.3
    deadline: Positive = 120.0
    bits: Literal[12, 16, 21, 32, 64] | None = None
    range: Positive | None = None


class Server(Section):
    """How the server steps on what is released: SGD at rate 1 is FedAvg, with momentum FedAvgM; FedAdam.

    With `averaging` the model that is tested and kept is the exponential average of the stepped ones, each
    earlier one weighing `averaging` times the next (De et al. 2022, section 3.3): it costs no privacy.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Rate = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.0
    evaluate_every: Count = 1


def least_units(data: Data, training: Training, privacy: Privacy) -> float:
    """Return how many units there are at least, by what the plan says in public: clients, or records.

    Where it says no number of records, it is that which a step's expected batch is drawn from.
    """
    if privacy.unit == "client":
        return data.clients
    return training.batch_size / privacy.sampling_rate if data.records is None else data.records


def gives_one_away(delta: float, units: float) -> bool:
    """Whether delta is so large that to publish one unit in full, drawn at random, would keep to it."""
    return delta * units >= 1
