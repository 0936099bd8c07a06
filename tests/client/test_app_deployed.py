"""The ClientApp as Flower loads it, with nothing but the node's own settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bract.client import app as client_app
from bract.client.records import Records
from bract.privacy import Plan
from bract.privacy.messages import UPDATE, Code

Make = Callable[..., Plan]
Sample = Callable[..., Records]
Call = Callable[..., Any]


@pytest.fixture
def shard(tmp_path: Path, sample: Sample) -> Path:
    """A device's data file."""
    client_app._records_of.cache_clear()
    records, path = sample(12), tmp_path / "records.npz"
    np.savez(path, x=records.features.numpy(), y=records.labels.numpy())
    return path


class TestTheDeployedApp:
    """The app as Flower loads it, with nothing but the node's own settings."""

    def test_answers_with_an_update_under_the_default_terms(
        self, make: Make, shard: Path, offer: Call, message: Call, context: Call, is_update: Call
    ) -> None:
        reply = client_app.app(message(offer(make())), context(data=str(shard)))
        assert is_update(reply)

    def test_keeps_to_the_terms_that_the_node_names(
        self,
        make: Make,
        shard: Path,
        tmp_path: Path,
        offer: Call,
        message: Call,
        context: Call,
        said: Call,
        is_update: Call,
    ) -> None:
        terms = tmp_path / "terms.toml"
        central = offer(make(privacy={"noise": "central"}))
        assert said(client_app.app(message(central), context(data=str(shard)))) is Code.TERMS
        terms.write_text("trusted_server = true\n")
        assert is_update(client_app.app(message(central), context(data=str(shard), terms=str(terms))))
        terms.write_text("trusted_server = true\nmax_epsilon = 1.0\n")
        assert said(client_app.app(message(central), context(data=str(shard), terms=str(terms)))) is Code.TERMS

    @pytest.mark.parametrize("text", ["max_epsilon = inf", "trust = true", "=", None])
    def test_takes_no_part_while_its_terms_cannot_be_read(
        self,
        make: Make,
        shard: Path,
        tmp_path: Path,
        text: str | None,
        offer: Call,
        message: Call,
        context: Call,
        said: Call,
        sent: Call,
    ) -> None:
        terms = tmp_path / "terms.toml"
        if text is not None:
            terms.write_text(text)
        reply = client_app.app(message(offer(make())), context(data=str(shard), terms=str(terms)))
        assert said(reply) is Code.PLAN
        assert str(tmp_path).encode() not in sent(reply)

    @pytest.mark.parametrize("data", ["", "missing.npz", "/dev/null"])
    def test_says_data_and_no_path_where_there_are_no_data(
        self, make: Make, tmp_path: Path, data: str, offer: Call, message: Call, context: Call, said: Call, sent: Call
    ) -> None:
        path = str(tmp_path / data) if data else ""
        reply = client_app.app(message(offer(make())), context(data=path))
        assert said(reply) is Code.DATA
        assert str(tmp_path).encode() not in sent(reply)

    def test_reads_no_settings_that_come_with_the_run(
        self,
        make: Make,
        shard: Path,
        tmp_path: Path,
        offer: Call,
        message: Call,
        context: Call,
        said: Call,
        node: Call,
    ) -> None:
        terms = tmp_path / "terms.toml"
        terms.write_text("trusted_server = true\n")
        node = context(data=str(shard))
        node.run_config = {"terms": str(terms), "data": "other.npz", "trusted_server": True}
        assert said(client_app.app(message(offer(make(privacy={"noise": "central"}))), node)) is Code.TERMS

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('unit = "record"', 'unit = "none"'),
            ('noise = "local"', 'noise = "none"'),
            ("[privacy]", "[privacy]\nseed = 0"),
            ("[privacy]", "[terms]\nmax_epsilon = 100.0\n\n[privacy]"),
        ],
    )
    def test_knows_nothing_of_plans_that_protect_nobody(
        self, make: Make, shard: Path, old: str, new: str, offer: Call, message: Call, context: Call, said: Call
    ) -> None:
        content = offer(make().offered().replace(old, new))
        assert said(client_app.app(message(content), context(data=str(shard)))) is Code.PLAN

    def test_takes_no_seed_from_the_server(
        self, make: Make, shard: Path, monkeypatch: pytest.MonkeyPatch, offer: Call, message: Call, context: Call
    ) -> None:
        keys: list[int] = []
        urandom = client_app.SystemEntropy.keystream
        monkeypatch.setattr(
            client_app.SystemEntropy, "keystream", lambda self, *p: keys.append(1) or urandom(self, *p)
        )
        content = offer(make().offered() + "\n[simulation]\nseed = 7\n")
        updates = [
            client_app.app(message(content), context(data=str(shard))).content.array_records[UPDATE][UPDATE].data
            for _ in range(2)
        ]
        assert updates[0] != updates[1]
        assert len(keys) == 4

    def test_takes_no_code_from_a_data_file(
        self, make: Make, tmp_path: Path, offer: Call, message: Call, context: Call, said: Call
    ) -> None:
        path = tmp_path / "pickled.npz"
        np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1, dtype=int))
        assert said(client_app.app(message(offer(make())), context(data=str(path)))) is Code.DATA
