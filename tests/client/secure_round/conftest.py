"""What tests of secure rounds overhear."""

from __future__ import annotations

import pytest

from bract.client import secure_round as secagg
from bract.privacy.secagg.keys import RoundSecrets, new_secrets


@pytest.fixture
def overheard(monkeypatch: pytest.MonkeyPatch) -> list[RoundSecrets]:
    """All the secrets that devices make, in order: what no server can see."""
    made: list[RoundSecrets] = []

    def listening() -> RoundSecrets:
        made.append(new_secrets())
        return made[-1]

    monkeypatch.setattr(secagg, "new_secrets", listening)
    return made
