"""The rule for nn.RNN, nn.GRU and nn.LSTM: a time loop of our own, and the weights' gradients over all steps at once.

The loop's backward pass returns the gradient of the gates' inputs in every step. A record's gradient of a weight is
then one product over the steps. (torch's own layers compute a weight gradient for the whole batch in every step.)

Reference: Bu et al. 2023, "Differentially Private Optimization on Large Model at Small Cost", book-keeping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ..errors import ClippingError
from .base import LayerRule, Pairs, PerExampleGradients
from .instantiated import total
from .outer_product import affine_gradients
from .scan.base import GateGradients, Scan, Weights
from .scan.gru import GruScan
from .scan.lstm import LstmScan
from .scan.rnn import ReluScan, TanhScan

Layer = nn.RNN | nn.GRU | nn.LSTM


class RecurrentRule(LayerRule):
    """Recurrent layers on inputs [rows, steps, features] or [steps, rows, features]: all options but `proj_size`."""

    kinds = (nn.RNN, nn.GRU, nn.LSTM)

    def check(self) -> None:
        """Choose the time loop, and find the parameters of each layer and direction.

        Raises:
            ClippingError: an nn.LSTM has `proj_size`, or the layer has parameters beside its own.
        """
        self._scan, self._directions = _scan_of(self.layer), _parameters_by_direction(self.layer)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Return the same as the layer: outputs, and last states or (last states, last cells).

        All tensors are in the parameters' dtype, for any dtype of the network's passes.
        """
        if not torch.is_autocast_enabled(input.device.type):
            return self._outputs(input, hx)
        with torch.autocast(input.device.type, enabled=False):
            return self._outputs(input, hx)

    def _outputs(self, input: torch.Tensor, hx: Any) -> Any:
        states = _by_time(self.layer, input.to(self._directions[0][0].dtype))
        gradients = RecurrentGradients(self.gradients)
        directions = [Direction(self._scan, parameters, gradients) for parameters in self._directions]
        states, last = _all_layers(self.layer, directions, states, _first_states(self.layer, states, hx))
        outputs = states.transpose(0, 1) if self.layer.batch_first else states
        return outputs, last[0] if len(last) == 1 else tuple(last)


class RecurrentGradients(PerExampleGradients):
    """The gradients of one use of a recurrent layer: the backward pass collects them from all directions."""

    def __init__(self, collected: list[PerExampleGradients]) -> None:
        """Append itself to `collected` when the backward pass first adds gradients of one of its directions."""
        self._collected, self._directions = collected, list[PerExampleGradients]()

    def add(self, gradients: list[PerExampleGradients]) -> None:
        """Add the gradients of one layer and direction."""
        if gradients and not self._directions:
            self._collected.append(self)
        self._directions += gradients

    def _squared_norms(self) -> torch.Tensor:
        return total([part.squared_norms for part in self._directions])

    @property
    def squared_norm_bounds(self) -> torch.Tensor:
        """The sum of the bounds of all layers and directions, float64 [rows]."""
        return total([part.squared_norm_bounds for part in self._directions])

    def weighted_sum(self, factors: torch.Tensor) -> Pairs:
        """Return each parameter with the sum of the records' gradients times `factors` [rows]."""
        return [pair for part in self._directions for pair in part.weighted_sum(factors)]

    @property
    def instantiated(self) -> Pairs:
        """Each parameter with all records' gradients [rows, *its shape]; empty if one is not instantiated."""
        made = [part.instantiated for part in self._directions]
        return [pair for pairs in made for pair in pairs] if all(made) else ()


class Direction:
    """One layer and direction in one use: its time loop, and its parameters w_ih, w_hh and, if any, b_ih, b_hh."""

    def __init__(
        self, scan: Callable[..., Scan], parameters: list[nn.Parameter], gradients: RecurrentGradients
    ) -> None:
        self._scan, self.parameters, self._gradients = scan, parameters, gradients

    def scan(self, inputs: torch.Tensor, start: list[torch.Tensor]) -> Scan:
        """Return the time loop's states, from inputs [steps, rows, features] and start states [rows, units]."""
        return self._scan(inputs, start, Weights(*(p.detach() for p in self.parameters)))

    def capture(self, inputs: torch.Tensor, before: torch.Tensor, gates: GateGradients) -> None:
        """Store activations and gate gradients; `before` [steps, rows, units] are the states before every step."""
        w_ih, w_hh, *biases = self.parameters
        inputs, before, of_inputs, of_states = (
            tensor.transpose(0, 1) for tensor in (inputs, before, gates.of_inputs, gates.of_states)
        )
        if gates.of_inputs is gates.of_states:
            parts = [(of_inputs, [(w_ih, inputs), (w_hh, before)], biases)]
        else:
            parts = [(of_inputs, [(w_ih, inputs)], biases[:1]), (of_states, [(w_hh, before)], biases[1:])]
        trained = [(g, t, b) for g, t, b in parts if any(p.requires_grad for p in [*(w for w, _ in t), *b])]
        self._gradients.add([affine_gradients(*part) for part in trained])


class TimeLoop(torch.autograd.Function):
    """A time loop whose backward passes the gate gradients to its direction and computes no weight gradient."""

    @staticmethod
    def forward(
        ctx: Any, direction: Direction, anchor: torch.Tensor, inputs: torch.Tensor, *start: torch.Tensor
    ) -> Any:
        """Return the states [steps, rows, units] and the last states. `anchor` is as in `CaptureGradient`."""
        ctx.set_materialize_grads(False)
        ctx.direction, ctx.scan = direction, direction.scan(inputs, list(start))
        states = ctx.scan.states[1:]
        ctx.save_for_backward(inputs, states)  # so that autograd refuses in-place changes of these
        return states, *(end.clone() for end in ctx.scan.ends)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor | None, *of_ends: torch.Tensor | None) -> Any:
        """Return d loss / d inputs and d loss / d start."""
        inputs, _ = ctx.saved_tensors
        gates = ctx.scan.gate_gradients(upstream, of_ends)
        ctx.direction.capture(inputs, ctx.scan.states[:-1], gates)
        wanted = ctx.needs_input_grad[2]
        of_inputs = gates.of_inputs @ ctx.direction.parameters[0].detach() if wanted else None
        return None, None, of_inputs, *gates.of_start


def _scan_of(layer: Layer) -> Callable[..., Scan]:
    if layer.proj_size:
        raise ClippingError(
            "nn.LSTM with proj_size has no per-example rule", "set proj_size to 0 and add an nn.Linear"
        )
    if isinstance(layer, nn.RNN):
        return ReluScan if layer.nonlinearity == "relu" else TanhScan
    return GruScan if isinstance(layer, nn.GRU) else LstmScan


def _parameters_by_direction(layer: Layer) -> list[list[nn.Parameter]]:
    """Return the parameters, frozen or not, of each layer and direction: w_ih, w_hh and, with biases, b_ih, b_hh."""
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if layer.bias else [])]
    ends = ["", "_reverse"] if layer.bidirectional else [""]
    own: dict[str, Any] = {**layer._parameters, **layer._buffers}
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


def _first_states(layer: Layer, inputs: torch.Tensor, hx: Any) -> list[torch.Tensor]:
    """Return the first states and, for nn.LSTM, cells, each [layers * directions, rows, units]."""
    wanted = 2 if isinstance(layer, nn.LSTM) else 1
    shape = (layer.num_layers * (2 if layer.bidirectional else 1), inputs.shape[1], layer.hidden_size)
    if hx is None:
        return [inputs.new_zeros(shape)] * wanted
    given = list(hx) if wanted == 2 else [hx]
    if [tuple(s.shape) for s in given] != [shape] * wanted:
        raise ValueError(f"first states of nn.{type(layer).__name__} have shape {list(shape)}, one row a record")
    return given


def _all_layers(
    layer: Layer, directions: list[Direction], states: torch.Tensor, start: list[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the last layer's states at every step, and every layer's states at the last step."""
    width = 2 if layer.bidirectional else 1
    last = list[list[torch.Tensor]]()
    for number in range(0, len(directions), width):
        if number and layer.dropout:
            states = nn.functional.dropout(states, layer.dropout, layer.training)
        both = [
            _one_direction(directions[number + way], states, [s[number + way] for s in start], way == 1)
            for way in range(width)
        ]
        states = both[0][0] if width == 1 else torch.cat([all_steps for all_steps, _ in both], dim=2)
        last += [ends for _, ends in both]
    if len(last) == 1:
        return states, [end[None] for end in last[0]]
    return states, [torch.stack(ends) for ends in zip(*last, strict=True)]


def _one_direction(
    direction: Direction, inputs: torch.Tensor, start: list[torch.Tensor], backwards: bool
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the states at every step, in the order of the inputs, and the states (and cells) at the loop's end."""
    anchor = inputs.new_empty(0, requires_grad=True)
    states, *ends = TimeLoop.apply(direction, anchor, inputs.flip(0) if backwards else inputs, *start)
    return states.flip(0) if backwards else states, ends
