"""Where the ledgers of these tests lie, and a small one."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgers import write_three


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def written(path: Path) -> bytes:
    """A small ledger of three entries."""
    return write_three(path)
