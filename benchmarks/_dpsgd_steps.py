"""One training step of a network by each method: torch without privacy, bract, and the modes of Opacus."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from opacus import PrivacyEngine
from opacus.layers import DPRNN
from opacus.validators import ModuleValidator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bract.client.clipping.engine import make_engine
from bract.client.records import Records
from bract.models import build, objective_of
from bract.privacy import Keystream
from bract.privacy.encoding.quantization import dequantize, quantize
from bract.privacy.mechanisms.local import BLOCK
from bract.privacy.noise.gaussian import gaussian

CLIP, NOISE, RATE = 1.0, 1.0, 0.05
GRID = 2.0**-30
"""The step, in clip norms, of the grid on which plans add noise."""

MODES = ("hooks", "functorch", "ew", "ghost")

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A network, its records, and the limits on our step's time, relative to torch and Opacus, at one batch size."""

    name: str
    shape: tuple[int, ...]
    classes: int
    judged: int
    over_plain: float
    over_opacus: float


CASES = {
    case.name: case
    for case in (
        Case("cnn", (1, 28, 28), 10, 128, 0.95, 1 / 1.7),
        Case("cnn-large", (1, 28, 28), 10, 128, 1.05, 1 / 2),
        Case("gru-lm", (100,), 10_000, 32, 0.9, 1 / 2),
        Case("rnn", (28, 28), 10, 32, 0.95, 1 / 4),
    )
}


def batch(case: Case, count: int, device: str) -> Records:
    """Return random records: numbers with one class each, or sequences of tokens with a Zipf distribution."""
    random = np.random.default_rng(0)
    if len(case.shape) == 1:
        ranks = random.zipf(1.1, (count, case.shape[0] + 1)) % case.classes
        tokens = torch.from_numpy(ranks).to(device)
        return Records(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    features = torch.from_numpy(random.random((count, *case.shape), dtype=np.float32))
    return Records(features.to(device), torch.from_numpy(random.integers(0, case.classes, count)).to(device))


def network(case: Case, device: str) -> nn.Module:
    """Return the network, with the same initial parameters each time."""
    return build(case.name, case.shape, case.classes, seed=0).to(device)


def mean_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return torch's mean cross entropy, over all positions of a record."""
    return nn.functional.cross_entropy(outputs.movedim(-1, 1), labels)


def plain(case: Case, records: Records, device: str) -> Step:
    """Return torch's step without privacy, as users write it."""
    model = network(case, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step() -> None:
        optimizer.zero_grad()
        mean_loss(model(records.features), records.labels).backward()
        optimizer.step()

    return step


def together_of(case: Case) -> int:
    """Return the number of steps whose noise is drawn at once, as a device does for its local steps."""
    return max(1, BLOCK // sum(p.numel() for p in network(case, "cpu").parameters()))


def noise_of(case: Case) -> Callable[[], np.ndarray]:
    """Return a function that returns one step's noise, in grid steps, from a fresh cipher key."""
    count, together = sum(p.numel() for p in network(case, "cpu").parameters()), together_of(case)

    def made() -> Iterator[np.ndarray]:
        while True:
            numbers = gaussian(NOISE * CLIP / GRID, together * count, Keystream(secrets.token_bytes(32)))
            yield from numbers.reshape(together, count)

    return partial(next, made())


def rows_of(records: Records, device: str) -> int:
    """Return the number of records in a pass of our engine, from the batch size, as in a plan."""
    if device == "cuda":
        return len(records)
    return next((rows for rows in (32, 64) if len(records) <= rows), 128)


def bract_sum(case: Case, records: Records, device: str) -> Step:
    """Return our clipped sum alone, as a device computes it."""
    loss = objective_of(case.name, case.shape).loss
    engine = make_engine(network(case, device), CLIP, loss, rows=rows_of(records, device))
    return lambda: engine.clipped_sum(records)


def bract(case: Case, records: Records, device: str) -> Step:
    """Return our step: clip, add noise from a cipher's keystream, update the parameters, which share one tensor."""
    loss = objective_of(case.name, case.shape).loss
    engine = make_engine(network(case, device), CLIP, loss, rows=rows_of(records, device))
    noise, parameters = noise_of(case), list(engine.model.parameters())
    flat = nn.utils.parameters_to_vector(parameters).detach()
    nn.utils.vector_to_parameters(flat, parameters)
    here = flat.numpy(force=True)

    @torch.no_grad()
    def step() -> None:
        steps = quantize(engine.clipped_sum(records), GRID)
        change = dequantize(np.add(steps, noise(), out=steps), GRID * RATE / len(records))
        if device == "cpu":
            np.subtract(here, change, out=here, casting="same_kind")
        else:
            flat.sub_(torch.from_numpy(change).to(device))

    return step


def opacus(mode: str, case: Case, records: Records, device: str) -> Step:
    """Return Opacus' step in one grad sample mode, with its default noise from torch's generator."""
    model = replaceable(network(case, "cpu")).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    loader = DataLoader(TensorDataset(records.features, records.labels), batch_size=len(records))
    options = {"noise_multiplier": NOISE, "max_grad_norm": CLIP, "poisson_sampling": False, "grad_sample_mode": mode}
    made = PrivacyEngine().make_private(
        module=model, optimizer=optimizer, data_loader=loader, criterion=nn.CrossEntropyLoss(), **options
    )
    model, optimizer = made[:2]
    loss = made[2] if mode == "ghost" else nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss(model(records.features).movedim(-1, 1), records.labels).backward()
        optimizer.step()

    return step


def replaceable(model: nn.Module) -> nn.Module:
    """Return the network with Opacus' own recurrent layers, of the same sizes, in place of torch's."""
    for module in model.modules():
        for name, layer in module.named_children():
            if type(layer) is nn.RNN:
                setattr(module, name, DPRNN(layer.input_size, layer.hidden_size, batch_first=True))
    return ModuleValidator.fix(model)


def make_step(method: str, case: Case, count: int, device: str = "cpu") -> Step:
    """Return a step of "plain", "bract", "sum" (ours without noise and update) or an Opacus mode, tried once."""
    warnings.simplefilter("ignore")  # Opacus warns about its generator and about hooks
    records = batch(case, count, device)
    makers: dict[str, Callable[..., Step]] = {"plain": plain, "bract": bract, "sum": bract_sum}
    step = makers[method](case, records, device) if method in makers else opacus(method, case, records, device)
    step()
    return step
