"""The rules for nn.Conv1d, nn.Conv2d and nn.ConvTranspose2d.

A convolution is a linear layer on windows of its inputs. Tensors are in channels-last memory, where a window is a few
runs of memory and the library's kernels for pools are at their fastest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..hooks import LayerWatch
from .matrix import MatrixUse
from .outer_product import OuterProducts, Strips, is_made

Pair = tuple[int, int]

WIDE = 32
"""Inputs of one row of a kernel from which on a matrix product of them alone is efficient."""


def watch_convolution(layer: nn.Conv1d | nn.Conv2d) -> LayerWatch:
    """Watch a convolution on inputs [rows, channels, (height,) width], with any of its options."""
    return LayerWatch(layer, _run, _use)


def watch_transposed(layer: nn.ConvTranspose2d) -> LayerWatch:
    """Watch a transposed convolution on inputs [rows, channels, height, width], with any of its options."""
    return LayerWatch(layer, _run_transposed, _use_transposed)


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """Return images [rows, channels, height, width] in channels-last memory, unmistakably so for one channel."""
    rows, channels, height, width = images.shape
    if channels == 1:
        return images.reshape(rows, height, width, 1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


def _edges(layer: nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d) -> list[int]:
    """Return how much is padded, last dimension first, each (before, after), as `pad` takes it."""
    if layer.padding == "valid":
        return [0, 0] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [edge for total in reversed(totals) for edge in (total // 2, total - total // 2)]
    return [int(edge) for edge in reversed(layer.padding) for _ in range(2)]


def _run(layer: nn.Conv1d | nn.Conv2d, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return outputs, and the inputs as they are after padding, [rows, channels, height, width]."""
    flat, weight = isinstance(layer, nn.Conv1d), layer.weight.detach()
    images, edges = inputs, _edges(layer)
    if any(edges):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        images = nn.functional.pad(images, edges, mode=mode)
    images = channels_last(images[:, :, None] if flat else images)
    bias = None if layer.bias is None else layer.bias.detach()
    kernel = channels_last(weight[:, :, None] if flat else weight)
    _, stride, dilation = _options(layer)
    outputs = nn.functional.conv2d(images, kernel, bias, stride, 0, dilation, layer.groups)
    return outputs[:, :, 0].clone() if flat else outputs, images.detach()


def _use(layer: nn.Conv1d | nn.Conv2d, images: torch.Tensor, gradient: torch.Tensor) -> MatrixUse:
    flat = isinstance(layer, nn.Conv1d)
    gradient = gradient[:, :, None] if flat else gradient
    kernel, stride, dilation = _options(layer)
    flow = _rows(gradient)
    places = (gradient.shape[2], gradient.shape[3])
    products = _products(images, grouped(flow, layer.groups), kernel, stride, dilation, places)

    def shape(weights: torch.Tensor) -> torch.Tensor:
        """Bring [groups, outputs, window] to the weight's shape."""
        whole = weights.reshape(layer.out_channels, *kernel, -1).permute(0, 3, 1, 2)
        return whole.reshape(layer.weight.shape)

    return MatrixUse(layer, products, flow, shape)


def _products(
    images: torch.Tensor, flow: torch.Tensor, kernel: Pair, stride: Pair, dilation: Pair, places: Pair
) -> OuterProducts | Strips:
    """Return the products of windows and `flow`, the output gradients [rows, groups, positions, outputs].

    Where gradients are made, windows one kernel row high serve all rows of the kernel.
    """
    groups, width = flow.shape[1], kernel[1] * images.shape[1] // flow.shape[1]
    if stride[0] > 1 or width < WIDE or not is_made(flow.shape[2], groups, kernel[0] * width, flow.shape[3]):
        return OuterProducts(windows(images, groups, kernel, stride, dilation, places), flow)
    low = windows(images, groups, (1, kernel[1]), stride, dilation, (images.shape[2], places[1]))
    starts = [row * dilation[0] * places[1] for row in range(kernel[0])]
    return Strips([OuterProducts(low[:, :, start : start + places[0] * places[1]], flow) for start in starts])


def _options(layer: Any) -> tuple[Pair, Pair, Pair]:
    """Return kernel size, stride and dilation, each (height, width)."""
    first = (1,) if isinstance(layer, nn.Conv1d) else ()
    kernel, stride, dilation = ((*first, *option) for option in (layer.kernel_size, layer.stride, layer.dilation))
    return kernel, stride, dilation  # type: ignore[return-value]


def _run_transposed(layer: nn.ConvTranspose2d, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    images = channels_last(inputs)
    bias = None if layer.bias is None else layer.bias.detach()
    _, stride, dilation = _options(layer)
    padding, more = tuple(_edges(layer)[2::-2]), tuple(layer.output_padding)
    outputs = nn.functional.conv_transpose2d(
        images, layer.weight.detach(), bias, stride, padding, more, layer.groups, dilation
    )
    return outputs, images.detach()  # type: ignore[arg-type]


def _use_transposed(layer: nn.ConvTranspose2d, images: torch.Tensor, gradient: torch.Tensor) -> MatrixUse:
    """The roles of inputs and gradients are exchanged: windows are those of the output that an input spread to."""
    kernel, stride, dilation = _options(layer)
    above, aside = _edges(layer)[2], _edges(layer)[0]
    around = channels_last(nn.functional.pad(gradient, [aside, aside, above, above]))
    seen = windows(around, layer.groups, kernel, stride, dilation, (images.shape[2], images.shape[3]))
    products = OuterProducts(seen, grouped(_rows(images), layer.groups))

    def shape(weights: torch.Tensor) -> torch.Tensor:
        """Bring [groups, inputs, window] to the weight's shape."""
        return weights.reshape(layer.in_channels, *kernel, -1).permute(0, 3, 1, 2).reshape(layer.weight.shape)

    return MatrixUse(layer, products, _rows(gradient), shape)


def _rows(images: torch.Tensor) -> torch.Tensor:
    """Return [rows, channels, height, width] as [rows, positions, channels]."""
    return images.permute(0, 2, 3, 1).flatten(1, 2)


def grouped(vectors: torch.Tensor, groups: int) -> torch.Tensor:
    """Return [rows, positions, channels] as [rows, groups, positions, channels of a group]."""
    return vectors.unflatten(2, (groups, -1)).transpose(1, 2)


def windows(
    images: torch.Tensor, groups: int, kernel: Pair, stride: Pair, dilation: Pair, places: Pair
) -> torch.Tensor:
    """Return the windows at `places` (height, width), [rows, groups, positions, kernel * channels of a group]."""
    rows, channels, _, _ = images.shape
    row, channel, down, right = images.stride()
    views = images.as_strided(
        (rows, *places, *kernel, channels),
        (row, stride[0] * down, stride[1] * right, dilation[0] * down, dilation[1] * right, channel),
        images.storage_offset(),
    )
    parts = views.unflatten(5, (groups, -1)).permute(0, 5, 1, 2, 3, 4, 6)
    if channels * kernel[1] < places[1]:  # runs along the image are longer than those within a window
        inner = parts.permute(0, 1, 4, 5, 6, 2, 3).reshape(rows, groups, -1, places[0] * places[1])
        return inner.transpose(2, 3)
    return parts.reshape(rows, groups, places[0] * places[1], -1)
