"""The ClientApp as Flower loads it, with nothing but the node's own settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import (
    holds_update,
    make_message,
    make_offer,
    make_tiny_plan,
    node_context,
    random_records,
    said_code,
    sent_bytes,
)
from flwr.app import ConfigRecord, Context

from bract.client import app as client_app
from bract.client import device as device_file
from bract.privacy import SystemEntropy
from bract.privacy.messages import KEYS, SECAGG
from bract.privacy.secagg.identity import new_identity, public_text, read_identity, write_identity
from bract.privacy.secagg.keys import read_card
from bract.privacy.server_view import ANSWER, UPDATE, Code

Call = Callable[..., Any]


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., Context]:
    """A function: the context of a node with a state folder, terms that change no default, and these settings."""
    (tmp_path / "default.toml").write_text("")
    usual = {"state": str(tmp_path / "state"), "terms": str(tmp_path / "default.toml")}
    return lambda **settings: node_context(**(usual | settings))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A device's data file."""
    device_file._records_of.cache_clear()
    records, path = random_records(12), tmp_path / "records.npz"
    np.savez(path, x=records.features.numpy(), y=records.labels.numpy())
    return path


@pytest.fixture
def clear(tmp_path: Path) -> Path:
    """Terms that let updates out without masks, and are the default ones besides."""
    path = tmp_path / "clear.toml"
    path.write_text("clear_updates = true\n")
    return path


@pytest.fixture
def member(tmp_path: Path) -> dict[str, str]:
    """Settings of a device of secure aggregation: its identity, a roster with it and another, and its own folder."""
    own, other = new_identity(), new_identity()
    write_identity(tmp_path / "own.pem", own)
    listed = [f'{name} = "{public_text(identity.public)}"' for name, identity in {"own": own, "other": other}.items()]
    (tmp_path / "roster.toml").write_text("\n".join(["[devices]", *listed]))
    return {name: str(tmp_path / file) for name, file in MEMBER.items()}


MEMBER = {"identity": "own.pem", "roster": "roster.toml", "state": "state"}
SECURE = {"aggregation": {"protocol": "secagg"}, "cohort": {"size": 2, "rounds": 2}}


class TestTheDeployedApp:
    """The app as Flower loads it, with nothing but the node's own settings."""

    def test_sends_no_update_in_the_clear_under_default_terms(self, shard: Path, context: Call) -> None:
        assert (
            said_code(client_app.app(make_message(make_offer(make_tiny_plan())), context(data=str(shard))))
            is Code.REFUSED
        )

    def test_sends_an_update_in_the_clear_if_the_terms_say_so(self, shard: Path, clear: Path, context: Call) -> None:
        reply = client_app.app(make_message(make_offer(make_tiny_plan())), context(data=str(shard), terms=str(clear)))
        assert holds_update(reply)

    def test_shows_its_card_under_default_terms(self, shard: Path, member: dict[str, str], context: Call) -> None:
        """It needs an identity, a roster and a folder."""
        content = make_offer(make_tiny_plan(**SECURE))
        reply = client_app.app(make_message(content, KEYS), context(data=str(shard), **member)).content
        assert reply.config_records[ANSWER]["code"] == "ok"
        assert set(reply) == {ANSWER, SECAGG}
        assert list(reply.config_records[SECAGG]) == ["card"]
        card = read_card(bytes(reply.config_records[SECAGG]["card"]), hybrid=False)
        assert card.identity == read_identity(Path(member["identity"])).public

    @pytest.mark.parametrize("missing", MEMBER)
    def test_takes_no_part_in_secure_aggregation_without_all_of_them(
        self, shard: Path, member: dict[str, str], missing: str, context: Call
    ) -> None:
        content = make_message(make_offer(make_tiny_plan(**SECURE)), KEYS)
        assert said_code(client_app.app(content, context(data=str(shard), **(member | {missing: ""})))) is Code.PLAN

    def test_answers_nothing_without_a_folder_for_its_ledger(
        self, shard: Path, clear: Path, context: Call, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its log says so."""
        settings = {"data": str(shard), "terms": str(clear), "state": ""}
        assert said_code(client_app.app(make_message(make_offer(make_tiny_plan())), context(**settings))) is Code.PLAN
        assert "the node has no state" in caplog.text
        assert "--node-config" in caplog.text

    @pytest.mark.parametrize("kind", ["train", KEYS])
    def test_answers_nothing_without_terms(
        self, shard: Path, member: dict[str, str], kind: str, context: Call, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It names the command that writes them."""
        content = make_offer(make_tiny_plan(**SECURE))
        reply = client_app.app(make_message(content, kind), context(data=str(shard), **(member | {"terms": ""})))
        assert said_code(reply) is Code.PLAN
        assert "the node has no terms" in caplog.text
        assert "bract terms init" in caplog.text
        assert not Path(member["state"]).exists()

    @pytest.mark.parametrize("name", ["own.pem", "roster.toml", "default.toml", "state", "."])
    def test_answers_nothing_while_others_can_change_what_it_goes_by(
        self, shard: Path, tmp_path: Path, member: dict[str, str], name: str, context: Call
    ) -> None:
        def answer() -> Any:
            return client_app.app(
                make_message(make_offer(make_tiny_plan(**SECURE)), KEYS), context(data=str(shard), **member)
            )

        (tmp_path / "state").mkdir()
        kept = (tmp_path / name).stat().st_mode
        for more in (0o020, 0o002):
            (tmp_path / name).chmod(kept | more)
            assert said_code(answer()) is Code.DATA
        (tmp_path / name).chmod(kept)
        assert holds_update(answer())

    def test_answers_in_a_folder_where_all_may_put_files(
        self, shard: Path, tmp_path: Path, member: dict[str, str], context: Call
    ) -> None:
        """But nobody may change another's."""
        tmp_path.chmod(0o1777)
        assert holds_update(
            client_app.app(
                make_message(make_offer(make_tiny_plan(**SECURE)), KEYS), context(data=str(shard), **member)
            )
        )

    @pytest.mark.parametrize("kind", [KEYS, "train"])
    def test_takes_no_part_if_its_identity_is_not_on_its_roster(
        self,
        shard: Path,
        tmp_path: Path,
        member: dict[str, str],
        kind: str,
        context: Call,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        write_identity(tmp_path / "new.pem", new_identity())
        content = make_offer(make_tiny_plan(**SECURE))
        if kind == "train":
            content[SECAGG] = ConfigRecord({"cohort": b""})
        settings = member | {"identity": str(tmp_path / "new.pem")}
        assert (
            said_code(client_app.app(make_message(content, kind), context(data=str(shard), **settings))) is Code.DATA
        )
        assert "own identity is not on its roster" in caplog.text

    def test_answers_nothing_where_its_ledger_cannot_be_written(
        self, shard: Path, clear: Path, context: Call
    ) -> None:
        settings = {"data": str(shard), "terms": str(clear), "state": str(shard)}
        assert (
            said_code(client_app.app(make_message(make_offer(make_tiny_plan())), context(**settings))) is Code.FAILED
        )

    @pytest.mark.parametrize("damaged", ["identity", "roster"])
    def test_takes_no_part_if_identity_or_roster_is_unreadable(
        self, shard: Path, member: dict[str, str], damaged: str, context: Call
    ) -> None:
        path = Path(member[damaged])
        path.write_text("nothing of the kind")
        reply = client_app.app(
            make_message(make_offer(make_tiny_plan(**SECURE)), KEYS), context(data=str(shard), **member)
        )
        assert said_code(reply) is Code.DATA
        assert str(path).encode() not in sent_bytes(reply)

    def test_takes_no_part_while_others_can_read_its_identity(
        self, shard: Path, member: dict[str, str], context: Call
    ) -> None:
        Path(member["identity"]).chmod(0o640)
        reply = client_app.app(
            make_message(make_offer(make_tiny_plan(**SECURE)), KEYS), context(data=str(shard), **member)
        )
        assert said_code(reply) is Code.DATA

    def test_keeps_to_the_terms_that_the_node_names(self, shard: Path, tmp_path: Path, context: Call) -> None:
        terms = tmp_path / "terms.toml"
        central = make_offer(make_tiny_plan(privacy={"noise": "central"}))

        def answer(text: str) -> Any:
            terms.write_text(text)
            state = tmp_path / f"state-{len(list(tmp_path.iterdir()))}"
            return client_app.app(make_message(central), context(data=str(shard), terms=str(terms), state=str(state)))

        for short in ("", "trusted_server = true\n", "clear_updates = true\n"):
            assert said_code(answer(short)) is Code.REFUSED
        assert holds_update(answer("trusted_server = true\nclear_updates = true\n"))
        assert said_code(answer("trusted_server = true\nclear_updates = true\nmax_epsilon = 1.0\n")) is Code.REFUSED

    @pytest.mark.parametrize("text", ["max_epsilon = inf", "trust = true", "=", None])
    def test_takes_no_part_while_its_terms_cannot_be_read(
        self, shard: Path, tmp_path: Path, text: str | None, context: Call
    ) -> None:
        terms = tmp_path / "terms.toml"
        if text is not None:
            terms.write_text(text)
        reply = client_app.app(make_message(make_offer(make_tiny_plan())), context(data=str(shard), terms=str(terms)))
        assert said_code(reply) is Code.PLAN
        assert str(tmp_path).encode() not in sent_bytes(reply)

    @pytest.mark.parametrize("data", ["", "missing.npz", "/dev/null"])
    def test_says_data_and_no_path_where_there_are_no_data(self, tmp_path: Path, data: str, context: Call) -> None:
        path = str(tmp_path / data) if data else ""
        reply = client_app.app(make_message(make_offer(make_tiny_plan())), context(data=path))
        assert said_code(reply) is Code.DATA
        assert str(tmp_path).encode() not in sent_bytes(reply)

    def test_reads_no_settings_that_come_with_the_run(
        self, shard: Path, clear: Path, tmp_path: Path, context: Call
    ) -> None:
        terms = tmp_path / "terms.toml"
        terms.write_text("trusted_server = true\nclear_updates = true\n")
        node = context(data=str(shard), terms=str(clear))
        node.run_config = {"terms": str(terms), "data": "other.npz", "trusted_server": True}
        assert (
            said_code(client_app.app(make_message(make_offer(make_tiny_plan(privacy={"noise": "central"}))), node))
            is Code.REFUSED
        )

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('unit = "record"', 'unit = "none"'),
            ('noise = "local"', 'noise = "none"'),
            ("[privacy]", "[privacy]\nseed = 0"),
            ("[privacy]", "[terms]\nmax_epsilon = 100.0\n\n[privacy]"),
        ],
    )
    def test_knows_nothing_of_plans_that_protect_nobody(self, shard: Path, old: str, new: str, context: Call) -> None:
        content = make_offer(make_tiny_plan().offered().replace(old, new))
        assert said_code(client_app.app(make_message(content), context(data=str(shard)))) is Code.PLAN

    def test_takes_no_seed_from_the_server(
        self, shard: Path, clear: Path, monkeypatch: pytest.MonkeyPatch, context: Call
    ) -> None:
        keys: list[int] = []
        urandom = SystemEntropy.keystream
        monkeypatch.setattr(SystemEntropy, "keystream", lambda self, *p: keys.append(1) or urandom(self, *p))
        content = make_offer(make_tiny_plan().offered() + "\n[simulation]\nseed = 7\n")
        settings = {"data": str(shard), "terms": str(clear)}
        devices = [context(**settings, state=str(shard.parent / name)) for name in ("one", "two")]
        replies = [client_app.app(make_message(content), device).content for device in devices]
        updates = [reply.array_records[UPDATE][UPDATE].data for reply in replies]
        assert updates[0] != updates[1]
        assert len(keys) == 4

    def test_takes_no_code_from_a_data_file(self, tmp_path: Path, context: Call) -> None:
        path = tmp_path / "pickled.npz"
        np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1, dtype=int))
        assert (
            said_code(client_app.app(make_message(make_offer(make_tiny_plan())), context(data=str(path))))
            is Code.DATA
        )
