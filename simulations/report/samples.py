"""Samples of a generative network, drawn as SVG shapes because the page's policy forbids images."""

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
"""Rows and columns of pictures, the pixels between them, and the generator's seed."""

LEVELS = 15
"""The number of shades besides the background."""


def samples(study: Study, outcome: Outcome) -> Iterator[Html]:
    """Yield a section of generated records if the network generates pictures, [(channels,) height, width]."""
    shape = study.data.shape
    if objective_of(study.model.name, shape) is not GENERATION or len(shape) not in (2, 3):
        return
    model = build(study.model.name, shape, study.data.classes, start=study.model.kept_start)
    load_flat(model, outcome.state.model)
    pictures = model.make(DOWN * ACROSS, SEED).numpy()  # type: ignore[operator]
    text = "Records from the released generator; they belong to nobody. Channels are averaged."
    picture = _svg(_grid(pictures.reshape(DOWN, ACROSS, -1, *shape[-2:]).mean(2)))
    yield section("Generated samples", element("figure", element("figcaption", text), picture))


def _grid(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return pictures [down, across, height, width] as one picture, with gaps between them."""
    padded = np.pad(np.nan_to_num(pictures), ((0, 0), (0, 0), (0, GAP), (0, GAP)))
    down, across, height, width = padded.shape
    return padded.transpose(0, 2, 1, 3).reshape(down * height, across * width)


def _svg(picture: NDArray[np.float32]) -> Html:
    """Return a picture [height, width] in 0..1 as an SVG element with one path per shade; 1 is the darkest."""
    paths = defaultdict[int, list[str]](list)
    for level, path in _runs((picture.clip(0, 1) * LEVELS).round().astype(int)):
        paths[level].append(path)
    shades = (
        element("path", d="".join(paths[level]), style=f"fill:var(--ink);fill-opacity:{level / LEVELS:.2f}")
        for level in sorted(paths)
    )
    height, width = picture.shape
    attributes = {"viewBox": f"0 0 {width} {height}", "shape-rendering": "crispEdges", "role": "img"}
    return element("svg", *shades, **attributes, aria_label="Pictures that the network generated")


def _runs(levels: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
    """Yield a rectangle, (level, path), for each horizontal run of pixels of one level above zero."""
    for y, row in enumerate(levels.tolist()):
        x = 0
        for level, run in groupby(row):
            length = len(list(run))
            if level:
                yield level, f"M{x} {y}h{length}v1h-{length}z"
            x += length
