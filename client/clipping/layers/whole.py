"""The rule for every other module: torch instantiates its gradients, record by record in one vectorized call.

It covers a module with all that is inside it, so weights may be used anywhere within: attention, custom layers, tied
weights. It keeps a gradient of the module's size for each record of a pass, so a rule of its own saves memory.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from ..errors import ClippingError
from .base import LayerRule
from .instantiated import InstantiatedGradients

Tensors = tuple[torch.Tensor, ...]


class WholeRule(LayerRule):
    """Any module whose tensors, inputs and outputs, have the records in their first dimension.

    Reference: Horace He & Richard Zou 2021, functorch: per-example gradients by vmap over vjp.
    """

    shared: tuple[str, ...] = ()
    """The names of arguments of the module's forward that belong to no record."""

    def install(self) -> None:
        """Replace the module's own forward by the rule's."""
        self._own = _Own(self.layer)
        self._trained = {name: p for name, p in self._own.named_parameters() if p.requires_grad}
        self._fixed = {name: p.detach() for name, p in self._own.named_parameters() if not p.requires_grad}
        self._fixed |= dict(self._own.named_buffers())
        self.looped = any(isinstance(part, nn.RNNBase | nn.RNNCellBase) for part in self.layer.modules())
        self.layer.__dict__["forward"] = self.forward

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return the module's output, computed record by record. The backward pass appends the gradients.

        Raises:
            ClippingError: a tensor among the arguments has no row for each record.
        """
        if not torch.is_grad_enabled():
            return self._own(*inputs, **options)
        arguments, given = pytree.tree_flatten(self._bound(inputs, options))
        tensors = [part for part in arguments if isinstance(part, torch.Tensor)]
        call = _Call(self, arguments, given, self._rows_of(arguments, given))
        outputs = _PerRecord.apply(call, next(self.layer.parameters()).new_empty(0, requires_grad=True), *tensors)
        return call.restore(outputs)  # type: ignore[arg-type]

    def _bound(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by the names of the module's forward."""
        bound = inspect.signature(type(self.layer).forward).bind(self.layer, *inputs, **options)
        return {"in order": bound.args[1:], "by name": bound.kwargs}

    def _rows_of(self, arguments: list[Any], given: pytree.TreeSpec) -> list[int | None]:
        """Return, for each tensor, the dimension of the records: 0, or None for an argument in `shared`."""
        names = list(inspect.signature(type(self.layer).forward).parameters)[1:]
        like = pytree.tree_unflatten(list(range(len(arguments))), given)
        apart = {at for name, at in zip(names, like["in order"], strict=False) if name in self.shared}
        apart |= {at for name, at in like["by name"].items() if name in self.shared}
        dims = [None if at in apart else 0 for at, part in enumerate(arguments) if isinstance(part, torch.Tensor)]
        sizes = [part.shape[:1] for at, part in enumerate(arguments) if at not in apart and _is_tensor(part)]
        if not sizes or len(set(sizes)) > 1 or not sizes[0]:
            raise ClippingError(
                f"{type(self.layer).__name__} takes a tensor without one row for each record",
                "give it only tensors whose first dimension is the records",
            )
        return dims

    def record(self, gradients: dict[str, torch.Tensor]) -> None:
        """Keep the per-example gradients [rows, *shape] of a use of the module."""
        self.gradients.append(InstantiatedGradients([(self._trained[name], g) for name, g in gradients.items()]))

    @property
    def trained(self) -> dict[str, torch.Tensor]:
        """The trained parameters, detached, by name."""
        return {name: p.detach() for name, p in self._trained.items()}

    def one(self, trained: dict[str, torch.Tensor], inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Return the module's output with these parameters."""
        return functional_call(self._own, {**self._fixed, **trained}, inputs, options)


class AttentionRule(WholeRule):
    """nn.MultiheadAttention, which computes with the weights of a layer inside it."""

    kinds = (nn.MultiheadAttention,)
    shared = ("attn_mask",)

    def check(self) -> None:
        """Refuse attention with the records in the second dimension.

        Raises:
            ClippingError: the layer has `batch_first = False`.
        """
        if not self.layer.batch_first:
            raise ClippingError(
                "nn.MultiheadAttention has the records in its second dimension", "set batch_first=True"
            )


class _Own(nn.Module):
    """A module under its own forward, also while the rule replaces it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return type(self.layer).forward(self.layer, *inputs, **options)


class _Call:
    """One use of a module: its arguments, and the state in which it can be computed again with the same dropout."""

    def __init__(self, rule: WholeRule, arguments: list[Any], given: pytree.TreeSpec, rows: list[int | None]) -> None:
        self.rule, self.rows, self._arguments, self._given = rule, rows, arguments, given
        device = next(part.device for part in arguments if isinstance(part, torch.Tensor))
        self._device, self._generators = device, _generators(device)
        self._random = [generator.get_state() for generator in self._generators]
        self._narrow = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
        self._returned: Any = None

    def of_one_record(self, trained: dict[str, torch.Tensor], *tensors: torch.Tensor) -> Tensors:
        """Return the output tensors for one record, without the dimension of the records."""
        parts = iter(part if dim is None else part[None] for part, dim in zip(tensors, self.rows, strict=True))
        arguments = [next(parts) if isinstance(part, torch.Tensor) else part for part in self._arguments]
        bound = pytree.tree_unflatten(arguments, self._given)
        found, self._returned = pytree.tree_flatten(self.rule.one(trained, bound["in order"], bound["by name"]))
        self._nones = [part is None for part in found]
        return tuple(part[0] for part in found if part is not None)

    def restore(self, tensors: Tensors) -> Any:
        """Return the outputs as the module's own forward returns them."""
        parts = iter(tensors)
        return pytree.tree_unflatten([None if none else next(parts) for none in self._nones], self._returned)

    @contextmanager
    def again(self) -> Generator[None]:
        """Run the block with the random numbers and the precision of the first time; then restore the generators."""
        now = [generator.get_state() for generator in self._generators]
        try:
            for generator, state in zip(self._generators, self._random, strict=True):
                generator.set_state(state)
            with torch.autocast(self._device.type, self._narrow[1], enabled=self._narrow[0]):
                yield
        finally:
            for generator, state in zip(self._generators, now, strict=True):
                generator.set_state(state)


class _PerRecord(torch.autograd.Function):
    """A module's outputs, whose backward instantiates every record's gradients."""

    @staticmethod
    def forward(ctx: Any, call: _Call, anchor: torch.Tensor, *tensors: torch.Tensor) -> Tensors:
        ctx.call = call
        ctx.save_for_backward(*tensors)
        arguments = (call.rule.trained, *tensors)
        return _over_rows(call.of_one_record, (None, *call.rows), call.rule.looped, arguments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        call, tensors = ctx.call, ctx.saved_tensors
        moved = [at for at, tensor in enumerate(tensors) if tensor.is_floating_point() and call.rows[at] == 0]

        def pulled(trained: dict[str, torch.Tensor], parts: Tensors, of_outputs: Tensors) -> Any:
            def outputs(trained: dict[str, torch.Tensor], *floats: torch.Tensor) -> Tensors:
                every = list(parts)
                for at, part in zip(moved, floats, strict=True):
                    every[at] = part
                return call.of_one_record(trained, *every)

            return vjp(outputs, trained, *(parts[at] for at in moved))[1](of_outputs)

        with call.again():
            dims, arguments = (None, tuple(call.rows), 0), (call.rule.trained, tensors, gradients)
            found, *of_inputs = _over_rows(pulled, dims, call.rule.looped, arguments)
        call.rule.record(found)
        by_place = dict(zip(moved, of_inputs, strict=True))
        needed = ctx.needs_input_grad[2:]
        return None, None, *(by_place.get(at) if needed[at] else None for at in range(len(tensors)))


def _over_rows(function: Callable[..., Any], dims: tuple[Any, ...], looped: bool, arguments: tuple[Any, ...]) -> Any:
    """Return the function's results row by row; each row has its own random numbers, and attention no fused kernels.

    The fused kernels have no vectorized form, and torch's recurrent layers have none either: with `looped`, rows are
    computed one after another.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            if not looped:
                return vmap(function, in_dims=dims, randomness="different")(*arguments)
            rows = [function(*_row(arguments, dims, row)) for row in range(_row_count(arguments, dims))]
            return pytree.tree_map(lambda *parts: torch.stack(parts), *rows)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _row(part: Any, dims: Any, row: int) -> Any:
    """Return a row of arguments as vmap passes it. `dims` is None, 0, or a tuple of them for a tuple of arguments."""
    if isinstance(dims, tuple):
        return tuple(_row(inside, dim, row) for inside, dim in zip(part, dims, strict=True))
    return part if dims is None else pytree.tree_map(lambda tensor: tensor[row], part)


def _row_count(part: Any, dims: Any) -> int:
    """Return the number of rows in arguments with these dimensions, as in `_row`; zero if there are none."""
    if isinstance(dims, tuple):
        return max(_row_count(inside, dim) for inside, dim in zip(part, dims, strict=True))
    return 0 if dims is None else len(pytree.tree_leaves(part)[0])


def _generators(device: torch.device) -> list[torch.Generator]:
    cuda = [torch.cuda.default_generators[device.index or 0]] if device.type == "cuda" else []
    return [torch.default_generator, *cuda]


def _is_tensor(part: Any) -> bool:
    return isinstance(part, torch.Tensor)
