"""The rule for nn.RNN, nn.GRU and nn.LSTM: a time loop of our own, and weight gradients of all steps at once.

The loop yields d loss / d gates of every step; a record's gradient of a weight is then one product over time.
(torch's own layers make a weight gradient in every step of the loop, for the batch as a whole.)
Reference: Bu et al. 2023, "Differentially Private Optimization on Large Model at Small Cost", book-keeping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ..errors import ClippingError
from ..hooks import Each, Pairs, total
from .gru import GruScan
from .lstm import LstmScan
from .over_time import OverTime, use_over_time
from .rnn import RectifiedScan, SimpleScan
from .scan import Gates, Scan, Weights

Layer = nn.RNN | nn.GRU | nn.LSTM


class RecurrentUse:
    """One use of a recurrent layer, among the `uses` of its watch once a gradient has passed back through it."""

    def __init__(self, uses: list[RecurrentUse]) -> None:
        self._uses, self._parts = uses, list[Each | OverTime]()

    def add(self, parts: list[Each | OverTime]) -> None:
        """Add the gradients of one layer and direction."""
        if parts and not self._parts:
            self._uses.append(self)
        self._parts += parts

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return total([part.squared_norms() for part in self._parts])

    def squared_magnitudes(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return total([part.squared_magnitudes() for part in self._parts])

    def weighted(self, factors: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return the parameters with their weighted sums."""
        return [pair for part in self._parts for pair in part.weighted(factors)]

    @property
    def pairs(self) -> Pairs:
        """Return the parameters with all records' gradients, or none if some are not made."""
        made = [part.pairs for part in self._parts if isinstance(part, Each)]
        return [pair for own in made for pair in own] if len(made) == len(self._parts) else []


class Run:
    """One layer and direction of one use: its kind of loop, w_ih, w_hh and, if there are any, b_ih, b_hh."""

    def __init__(self, kind: Callable[..., Scan], parameters: list[nn.Parameter], use: RecurrentUse) -> None:
        self.kind, self.parameters, self.use = kind, parameters, use

    def scan(self, inputs: torch.Tensor, start: list[torch.Tensor]) -> Scan:
        """Return the states of every step; inputs [steps, rows, features]."""
        return self.kind(inputs, start, Weights(*(p.detach() for p in self.parameters)))

    def tell(self, inputs: torch.Tensor, before: torch.Tensor, gates: Gates) -> None:
        """Tell the use the factors of the weight gradients, `before` being the states before every step."""
        w_ih, w_hh, *biases = self.parameters
        inputs, before, of_inputs, of_states = (
            tensor.transpose(0, 1) for tensor in (inputs, before, gates.of_inputs, gates.of_states)
        )
        if gates.of_inputs is gates.of_states:
            parts = [(of_inputs, [(w_ih, inputs), (w_hh, before)], biases)]
        else:
            parts = [(of_inputs, [(w_ih, inputs)], biases[:1]), (of_states, [(w_hh, before)], biases[1:])]
        trained = [(g, t, b) for g, t, b in parts if any(p.requires_grad for p in [*(w for w, _ in t), *b])]
        self.use.add([use_over_time(*part) for part in trained])


class Loop(torch.autograd.Function):
    """A time loop whose backward pass leaves the gates' gradients with its run, and makes no weight gradient."""

    @staticmethod
    def forward(ctx: Any, run: Run, tap: torch.Tensor, inputs: torch.Tensor, *start: torch.Tensor) -> Any:
        """Return states [steps, rows, units], and what it ends with. `tap` makes autograd call us back."""
        ctx.set_materialize_grads(False)
        ctx.run, ctx.scan = run, run.scan(inputs, list(start))
        states = ctx.scan.states[1:]
        ctx.save_for_backward(inputs, states)  # a change of these in place must not go unseen
        return states, *(end.clone() for end in ctx.scan.ends)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor | None, *of_ends: torch.Tensor | None) -> Any:
        """Return d loss / d inputs and d loss / d start."""
        inputs, _ = ctx.saved_tensors
        gates = ctx.scan.gates(upstream, of_ends)
        ctx.run.tell(inputs, ctx.scan.states[:-1], gates)
        wanted = ctx.needs_input_grad[2]
        return None, None, gates.of_inputs @ ctx.run.parameters[0].detach() if wanted else None, *gates.of_start


class RecurrentWatch:
    """A recurrent layer whose forward, once installed, is ours, and its uses since `uses` was last emptied."""

    def __init__(self, layer: Layer) -> None:
        """Watch the layer.

        Raises:
            ClippingError: there is no rule for such a layer.
        """
        self.layer, self.uses = layer, list[RecurrentUse]()
        self._kind, self._directions = _kind(layer), _directions(layer)

    def install(self) -> None:
        """Put our forward in place of the layer's own."""
        self.layer.__dict__["forward"] = self._forward

    def remove(self) -> None:
        """Give the layer its own forward back."""
        self.layer.__dict__.pop("forward", None)

    def _forward(self, input: Any, hx: Any = None) -> Any:
        """Return what the layer itself would: outputs, and last states or (last states, last cells).

        All is in the parameters' dtype, whatever that of the network's passes is.
        """
        if not torch.is_autocast_enabled(input.device.type):
            return self._outputs(input, hx)
        with torch.autocast(input.device.type, enabled=False):
            return self._outputs(input, hx)

    def _outputs(self, input: torch.Tensor, hx: Any) -> Any:
        states = _by_time(self.layer, input.to(self._directions[0][0].dtype))
        use = RecurrentUse(self.uses)
        runs = [Run(self._kind, parameters, use) for parameters in self._directions]
        states, last = _stack(self.layer, runs, states, _start(self.layer, states, hx))
        outputs = states.transpose(0, 1) if self.layer.batch_first else states
        return outputs, last[0] if len(last) == 1 else tuple(last)


def watch(layer: Layer) -> RecurrentWatch:
    """Return a watch whose forward notes what per-record gradients need.

    Raises:
        ClippingError: there is no rule for such a layer.
    """
    return RecurrentWatch(layer)


def _kind(layer: Layer) -> Callable[..., Scan]:
    if layer.proj_size:
        raise ClippingError(
            "nn.LSTM with proj_size has no per-record rule", "set proj_size to 0 and add an nn.Linear"
        )
    if isinstance(layer, nn.RNN):
        return RectifiedScan if layer.nonlinearity == "relu" else SimpleScan
    return GruScan if isinstance(layer, nn.GRU) else LstmScan


def _directions(layer: Layer) -> list[list[nn.Parameter]]:
    """Return the parameters of every layer and direction: w_ih, w_hh and, if there are any, b_ih, b_hh."""
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if layer.bias else [])]
    ends = ["", "_reverse"] if layer.bidirectional else [""]
    own = dict(layer.named_parameters(recurse=False))
    paths = [[f"{n}_l{depth}{end}" for n in names] for depth in range(layer.num_layers) for end in ends]
    if set(own) != {name for path in paths for name in path}:
        raise ClippingError(
            f"nn.{type(layer).__name__} with other parameters than its own has no rule", "leave it as it is"
        )
    return [[own[name] for name in path] for path in paths]


def _by_time(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
    """Return inputs as [steps, rows, features]."""
    if not isinstance(inputs, torch.Tensor) or inputs.dim() != 3 or not inputs.numel():
        raise ValueError("a recurrent layer takes one tensor of [records, steps, features]")
    if inputs.shape[2] != layer.input_size:
        raise ValueError(f"a recurrent layer of {layer.input_size} features got {inputs.shape[2]}")
    return inputs.transpose(0, 1).contiguous() if layer.batch_first else inputs


def _start(layer: Layer, states: torch.Tensor, hx: Any) -> list[torch.Tensor]:
    """Return the first states and, for nn.LSTM, cells, each [layers * directions, rows, units]."""
    wanted = 2 if isinstance(layer, nn.LSTM) else 1
    shape = (layer.num_layers * (2 if layer.bidirectional else 1), states.shape[1], layer.hidden_size)
    if hx is None:
        return [states.new_zeros(shape)] * wanted
    given = list(hx) if wanted == 2 else [hx]
    if [tuple(s.shape) for s in given] != [shape] * wanted:
        raise ValueError(f"first states of nn.{type(layer).__name__} have shape {list(shape)}, one row a record")
    return given


def _stack(
    layer: Layer, runs: list[Run], states: torch.Tensor, start: list[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the last layer's states of every step, and every layer's of the last step."""
    width = 2 if layer.bidirectional else 1
    last = list[list[torch.Tensor]]()
    for number in range(0, len(runs), width):
        if number and layer.dropout:
            states = nn.functional.dropout(states, layer.dropout, layer.training)
        ways = [_run(runs[number + way], states, [s[number + way] for s in start], way == 1) for way in range(width)]
        states = ways[0][0] if width == 1 else torch.cat([all_steps for all_steps, _ in ways], dim=2)
        last += [ends for _, ends in ways]
    if len(last) == 1:
        return states, [end[None] for end in last[0]]
    return states, [torch.stack(ends) for ends in zip(*last, strict=True)]


def _run(
    run: Run, inputs: torch.Tensor, start: list[torch.Tensor], backwards: bool
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return states of every step, in the order of the inputs, and what the loop ended with."""
    tap = inputs.new_empty(0, requires_grad=True)
    states, *ends = Loop.apply(run, tap, inputs.flip(0) if backwards else inputs, *start)
    return states.flip(0) if backwards else states, ends
