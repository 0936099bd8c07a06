"""Pictures of made records in the report: every pixel in its place and shade, none where there is nothing to see."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bract.models import build, read_flat
from bract.server.state import ServerState
from bract.server.training import Outcome
from bract.simulations.report.samples import ACROSS, DOWN, GAP, LEVELS, _grid, _svg, samples
from bract.simulations.study import make_study


def sections(name: str, shape: tuple[int, ...], spoil: float = 1.0) -> list[str]:
    study = make_study({"model": {"name": name}, "data": {"shape": list(shape)}, "privacy": {"unit": "none"}})
    parameters = read_flat(build(name, shape, 10, 0)) * np.float32(spoil)
    state = ServerState(1, parameters, parameters, {}, "", study.digest)
    return list(samples(study, Outcome(state, (), {})))


def drawn(svg: str, height: int, width: int) -> np.ndarray:
    """The picture that the paths of an SVG fill, in shades."""
    found = np.zeros((height, width), dtype=int)
    for path, opacity in re.findall(r'<path d="([^"]*)" style="fill:var\(--ink\);fill-opacity:([\d.]+)"', svg):
        for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path):
            part = found[int(y), int(x) : int(x) + int(length)]
            assert len(part) == int(length)
            assert not part.any()
            part[:] = round(float(opacity) * LEVELS)
    return found


def test_every_pixel_is_drawn_once_in_its_shade() -> None:
    """What is beyond 0 to 1 is drawn as the end of it."""
    picture = np.random.default_rng(0).uniform(-0.3, 1.3, (9, 14)).astype(np.float32)
    assert np.array_equal(drawn(_svg(picture), 9, 14), (picture.clip(0, 1) * LEVELS).round())
    assert drawn(_svg(np.ones((2, 3), np.float32)), 2, 3).min() == LEVELS


def test_pictures_stand_in_rows_with_gaps_between_them() -> None:
    pictures = np.arange(1, 1 + 2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    grid = _grid(pictures)
    assert grid.shape == (2 * (4 + GAP), 3 * (5 + GAP))
    assert np.array_equal(grid[4 + GAP : 8 + GAP, 2 * (5 + GAP) : 2 * (5 + GAP) + 5], pictures[1, 2])
    assert not grid[4 : 4 + GAP].any()


@pytest.mark.parametrize("shape", [(1, 6, 7), (3, 6, 7), (6, 7)])
def test_a_network_that_makes_pictures_shows_sixteen(shape: tuple[int, ...]) -> None:
    [section] = sections("gan", shape)
    assert f'viewBox="0 0 {ACROSS * (7 + GAP)} {DOWN * (6 + GAP)}"' in section
    assert (drawn(section, DOWN * (6 + GAP), ACROSS * (7 + GAP)) > 0).sum() > DOWN * ACROSS * 20
    assert sections("gan", shape) == [section]


def test_other_networks_and_other_records_show_nothing() -> None:
    """Records that are no pictures."""
    assert sections("mlp", (1, 6, 7)) == []
    assert sections("gan", (7,)) == []


def test_parameters_that_ran_away_leave_an_empty_picture() -> None:
    assert "<path" not in sections("gan", (6, 7), float("nan"))[0]
