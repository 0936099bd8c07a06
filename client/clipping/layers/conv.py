"""The rules for nn.Conv1d, nn.Conv2d and nn.ConvTranspose2d.

A convolution is a linear layer on the windows of its inputs. Tensors are in channels-last memory: there a window is a
few contiguous pieces of memory, and torch's pooling kernels are fastest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .base import ActivationRule, PerExampleGradients, detached
from .outer_product import ColumnBlocks, MatrixGradients, OuterProducts, is_instantiated

Size = tuple[int, int]
"""(height, width)."""

WIDE = 32
"""The least row of a window, in values, for which a matrix product with single rows is efficient."""


class ConvRule(ActivationRule):
    """Convolutions on inputs [rows, channels, (height,) width], with any of their options."""

    kinds = (nn.Conv1d, nn.Conv2d)

    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return outputs, and the padded inputs [rows, channels, height, width]."""
        layer, flat = self.layer, isinstance(self.layer, nn.Conv1d)
        images, edges, weight = inputs, _edges(layer), layer.weight.detach()
        if any(edges):
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
            images = nn.functional.pad(images, edges, mode=mode)
        images = channels_last(images[:, :, None] if flat else images)
        kernel = channels_last(weight[:, :, None] if flat else weight)
        _, stride, dilation = _options(layer)
        outputs = nn.functional.conv2d(images, kernel, detached(layer.bias), stride, 0, dilation, layer.groups)
        return outputs[:, :, 0].clone() if flat else outputs, images.detach()

    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
        """Return the gradients of kernel and bias."""
        layer = self.layer
        gradient = output_gradient[:, :, None] if isinstance(layer, nn.Conv1d) else output_gradient
        kernel, stride, dilation = _options(layer)
        vectors = _by_position(gradient)
        places = (gradient.shape[2], gradient.shape[3])
        products = _products(activation, grouped(vectors, layer.groups), kernel, stride, dilation, places)

        def shape(weights: torch.Tensor) -> torch.Tensor:
            """Return weights [groups, outputs, window] in the kernel's shape."""
            channels_first = weights.reshape(layer.out_channels, *kernel, -1).permute(0, 3, 1, 2)
            return channels_first.reshape(layer.weight.shape)

        return MatrixGradients(layer, products, vectors, shape)


class TransposedConvRule(ActivationRule):
    """Transposed convolutions on inputs [rows, channels, height, width], with any of their options.

    Activations and output gradients swap roles: an input is multiplied with the window of outputs to which it adds.
    """

    kinds = (nn.ConvTranspose2d,)

    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return outputs, and the inputs."""
        layer, images = self.layer, channels_last(inputs)
        _, stride, dilation = _options(layer)
        padding, extra = tuple(_edges(layer)[2::-2]), tuple(layer.output_padding)
        weight, bias = layer.weight.detach(), detached(layer.bias)
        outputs = nn.functional.conv_transpose2d(images, weight, bias, stride, padding, extra, layer.groups, dilation)
        return outputs, images.detach()  # type: ignore[arg-type]

    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
        """Return the gradients of kernel and bias."""
        layer = self.layer
        kernel, stride, dilation = _options(layer)
        above, aside = _edges(layer)[2], _edges(layer)[0]
        padded = channels_last(nn.functional.pad(output_gradient, [aside, aside, above, above]))
        places = (activation.shape[2], activation.shape[3])
        seen = windows(padded, layer.groups, kernel, stride, dilation, places)
        products = OuterProducts(seen, grouped(_by_position(activation), layer.groups))

        def shape(weights: torch.Tensor) -> torch.Tensor:
            """Return weights [groups, inputs, window] in the kernel's shape."""
            return weights.reshape(layer.in_channels, *kernel, -1).permute(0, 3, 1, 2).reshape(layer.weight.shape)

        return MatrixGradients(layer, products, _by_position(output_gradient), shape)


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """Return images [rows, channels, height, width] in channels-last memory, with channels-last strides."""
    rows, channels, height, width = images.shape
    if channels == 1:
        return images.reshape(rows, height, width, 1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


def _edges(layer: nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d) -> list[int]:
    """Return the padding (before, after) of each dimension, last dimension first, as `nn.functional.pad` takes it."""
    if layer.padding == "valid":
        return [0, 0] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [edge for total in reversed(totals) for edge in (total // 2, total - total // 2)]
    return [int(edge) for edge in reversed(layer.padding) for _ in range(2)]


def _products(
    images: torch.Tensor, gradients: torch.Tensor, kernel: Size, stride: Size, dilation: Size, places: Size
) -> OuterProducts | ColumnBlocks:
    """Return the products of windows and output gradients [rows, groups, positions, outputs].

    If they are instantiated, windows of height one serve for all rows of the kernel.
    """
    positions, groups, outputs = gradients.shape[2], gradients.shape[1], gradients.shape[3]
    width = kernel[1] * images.shape[1] // groups
    if stride[0] > 1 or width < WIDE or not is_instantiated(positions, groups, kernel[0] * width, outputs):
        return OuterProducts(windows(images, groups, kernel, stride, dilation, places), gradients)
    low = windows(images, groups, (1, kernel[1]), stride, dilation, (images.shape[2], places[1]))
    starts = [row * dilation[0] * places[1] for row in range(kernel[0])]
    return ColumnBlocks([OuterProducts(low[:, :, at : at + places[0] * places[1]], gradients) for at in starts])


def _options(layer: Any) -> tuple[Size, Size, Size]:
    """Return kernel size, stride and dilation, each (height, width)."""
    first = (1,) if isinstance(layer, nn.Conv1d) else ()
    kernel, stride, dilation = ((*first, *option) for option in (layer.kernel_size, layer.stride, layer.dilation))
    return kernel, stride, dilation  # type: ignore[return-value]


def _by_position(images: torch.Tensor) -> torch.Tensor:
    """Return [rows, channels, height, width] as [rows, positions, channels]."""
    return images.permute(0, 2, 3, 1).flatten(1, 2)


def grouped(vectors: torch.Tensor, groups: int) -> torch.Tensor:
    """Return [rows, positions, channels] in the shape [rows, groups, positions, channels of a group]."""
    return vectors.unflatten(2, (groups, -1)).transpose(1, 2)


def windows(
    images: torch.Tensor, groups: int, kernel: Size, stride: Size, dilation: Size, places: Size
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
    if channels * kernel[1] < places[1]:  # a row of the image is longer than a row of the window
        inner = parts.permute(0, 1, 4, 5, 6, 2, 3).reshape(rows, groups, -1, places[0] * places[1])
        return inner.transpose(2, 3)
    return parts.reshape(rows, groups, places[0] * places[1], -1)
