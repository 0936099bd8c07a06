"""Pictures of what a network makes, drawn as shapes in the page's own colours: its policy lets no image in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ...models import build, load_flat, objective_of
from ...models.objectives import GENERATION
from ...server.training import Outcome
from ..study import Study
from .page import Html, element, section

DOWN, ACROSS, GAP, SEED = 2, 8, 2, 1
"""Rows and columns of pictures, pixels between them, and the seed that they are made with."""

LEVELS = 15
"""Shades besides the page's own."""


def samples(study: Study, outcome: Outcome) -> Iterator[Html]:
    """Yield a section of made records, if the network makes any, and pictures [(channels,) height, width]."""
    shape = study.data.shape
    if objective_of(study.model.name, shape) is not GENERATION or len(shape) not in (2, 3):
        return
    model = build(study.model.name, shape, study.data.classes)
    load_flat(model, outcome.state.model)
    made = model.make(DOWN * ACROSS, SEED).numpy()  # type: ignore[operator]
    text = "Records that the released generator made; they belong to nobody. Channels are averaged."
    picture = _svg(_grid(made.reshape(DOWN, ACROSS, -1, *shape[-2:]).mean(2)))
    yield section("What the network makes", element("figure", element("figcaption", text), picture))


def _grid(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one picture of all [down, across, height, width], with gaps between them."""
    padded = np.pad(np.nan_to_num(pictures), ((0, 0), (0, 0), (0, GAP), (0, GAP)))
    down, across, height, width = padded.shape
    return padded.transpose(0, 2, 1, 3).reshape(down * height, across * width)


def _svg(picture: NDArray[np.float32]) -> Html:
    """Return a picture [height, width], 0..1, as an SVG element: one path a shade, the higher the more ink."""
    paths = defaultdict[int, list[str]](list)
    for level, path in _runs((picture.clip(0, 1) * LEVELS).round().astype(int)):
        paths[level].append(path)
    shades = (
        element("path", d="".join(paths[level]), style=f"fill:var(--ink);fill-opacity:{level / LEVELS:.2f}")
        for level in sorted(paths)
    )
    height, width = picture.shape
    attributes = {"viewBox": f"0 0 {width} {height}", "shape-rendering": "crispEdges", "role": "img"}
    return element("svg", *shades, **attributes, aria_label="Pictures that the network made")


def _runs(levels: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
    """Yield every run of one level but zero along a row, as a rectangle."""
    for y, row in enumerate(levels.tolist()):
        x = 0
        for level, run in groupby(row):
            length = len(list(run))
            if level:
                yield level, f"M{x} {y}h{length}v1h-{length}z"
            x += length
