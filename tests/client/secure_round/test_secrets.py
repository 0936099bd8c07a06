"""Where a device's secrets must not be: in its memory once they are used, in its journal, in a reply, in a log."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from devices import said_code, sent_bytes
from flwr.app import ConfigRecord
from flwr.common.serde import recorddict_to_proto
from secure_devices import make_lab

from bract.client import secure_round as secagg
from bract.client.run_history import HISTORY
from bract.privacy.messages import CONSENT, KEYS, SHARES, TRAIN, UNMASK
from bract.privacy.secagg.keys import RoundSecrets
from bract.privacy.secagg.seating import SeatedCohort
from bract.privacy.secagg.shares import SecretShares
from bract.privacy.server_view import Code

EVERY = range(4)
MODES = ["semi-honest", "malicious-server"]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bytes]]:
    """All that devices make and keep to themselves, as bytes: secrets, keys of masks, shares as they are dealt."""
    found: dict[str, list[bytes]] = {"secrets": [], "masks": [], "shares": []}
    new_secrets, masks_of, split = secagg.new_secrets, secagg.masks_of, secagg.split_secrets

    def secrets() -> RoundSecrets:
        made = new_secrets()
        found["secrets"] += [made.mask.secret, made.own, made.channel.secret]
        return made

    def masks(*given: Any) -> Any:
        made = masks_of(*given)
        found["masks"] += [mask.key for mask in made]
        return made

    def shares(*given: Any) -> list[SecretShares]:
        made = split(*given)
        found["shares"] += [part for held in made for part in (held.own, held.mask)]
        return made

    monkeypatch.setattr(secagg, "new_secrets", secrets)
    monkeypatch.setattr(secagg, "masks_of", masks)
    monkeypatch.setattr(secagg, "split_secrets", shares)
    return found


def written(secret: bytes) -> Iterator[bytes]:
    """The ways in which bytes may have been written down."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield base64.b64encode(secret)
    yield base64.urlsafe_b64encode(secret)
    yield repr(secret)[2:-1].encode()
    yield str(list(secret)).encode()
    yield str(int.from_bytes(secret)).encode()


def holds(place: bytes, secrets: Iterable[bytes]) -> int:
    """How many of the secrets are in these bytes."""
    return sum(any(form in place for form in written(secret)) for secret in secrets)


def memory(server: Any, place: int = 0) -> bytes:
    """The device's memory, as a SuperNode would write it."""
    return recorddict_to_proto(server.members[place].context.state).SerializeToString()


def next_round(server: Any) -> SeatedCohort:
    """Train in a round under way with all; they give their cards for the next round with it, as in steady state."""
    replies = [server.tell(p, TRAIN, cohort=server.invitation(p), keys=b"") for p in EVERY]
    coming = [server.section(reply, "card") for reply in replies]
    server.number += 1
    server.seat(coming)
    cohort, server.number = server.cohort, server.number - 1
    return cohort


class TestTheDevicesMemory:
    def test_holds_its_secrets_until_its_vector_is_masked(self, traced: dict[str, list[bytes]]) -> None:
        server = make_lab(4)
        server.keys()
        assert holds(memory(server), traced["secrets"]) == 3
        server.shares()
        assert holds(memory(server), traced["secrets"]) == 3
        server.train()
        assert holds(memory(server), traced["secrets"]) == 0

    def test_holds_one_share_of_each_secret_until_half_are_open(self, traced: dict[str, list[bytes]]) -> None:
        """Until the device opened half of them."""
        server = make_lab(4)
        server.until("masked")
        assert len(traced["shares"]) == 2 * 4 * 4
        assert holds(memory(server), traced["shares"]) == 2 * 4
        server.unmask(EVERY)
        own, mask = traced["shares"][0::2], traced["shares"][1::2]
        assert (holds(memory(server), own), holds(memory(server), mask)) == (4, 0)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
    def test_holds_of_an_opened_round_what_it_gave_away(
        self, traced: dict[str, list[bytes]], mode: str, exchange: str
    ) -> None:
        """And nothing else of the round."""
        server = make_lab(4, aggregation={"protocol": "secagg", "mode": mode, "key_exchange": exchange})
        server.until("masked")
        gave = server.unmask(EVERY, **({"signatures": server.consent(EVERY)} if mode == "malicious-server" else {}))
        for place, member in enumerate(server.members):
            assert list(member.context.state) == [HISTORY, "bract.secagg.1"]
            assert sorted(member.context.state[HISTORY]) == ["last", "plan", "rounds", "run"]
            seat = dict(member.context.state["bract.secagg.1"])
            assert seat.pop("held") == gave[place]
            member.context.state["bract.secagg.1"] = ConfigRecord(seat)
            assert {name for name, value in seat.items() if value} == {"session", "stage", "card", "asked"}
            assert not any(holds(memory(server, place), secrets) for secrets in traced.values())
            pages = member.journal.pages
            noted = bytes.fromhex("".join([*pages.steps, *pages.cards.values(), *pages.requests.values()]))
            assert not any(holds(noted, secrets) for secrets in traced.values())

    @pytest.mark.parametrize("mode", MODES)
    def test_holds_the_next_rounds_seat_alone_if_that_was_prepared(
        self, traced: dict[str, list[bytes]], mode: str
    ) -> None:
        server = make_lab(4, aggregation={"protocol": "secagg", "mode": mode})
        server.until("shares")
        first = {name: list(secrets) for name, secrets in traced.items()}
        this, coming = server.cohort, next_round(server)
        first["masks"] = list(traced["masks"])
        server.cohort = this
        signed = {"signatures": server.consent(EVERY)} if mode == "malicious-server" else {}
        for p in EVERY:
            more = server.context_signatures(EVERY) | signed | {"cards": coming.seating(p).to_bytes()}
            reply = server.tell(p, UNMASK, survivors=server.bits(EVERY), **more)
            coming.boxes[p] = server.section(reply, "sealed")
            assert len(server.section(reply, "opened")) == 33 * 4
        for place, member in enumerate(server.members):
            assert sorted(member.context.state) == [HISTORY, "bract.secagg.1", "bract.secagg.2"]
            assert holds(memory(server, place), first["shares"][1::2] + first["secrets"] + first["masks"]) == 0
            assert holds(memory(server, place), traced["secrets"]) == 3
        server.number, server.cohort = 2, coming
        sent = server.train()
        for place, member in enumerate(server.members):
            assert sorted(member.context.state) == [HISTORY, "bract.secagg.2"]
            assert not any(holds(memory(server, place), secrets) for secrets in first.values())
        signed = {"signatures": server.consent(EVERY)} if mode == "malicious-server" else {}
        assert np.array_equal(server.opened(sent, server.unmask(EVERY, **signed)), server.true(EVERY))

    def test_forgets_an_unopened_round_when_it_trains_in_the_next(self, traced: dict[str, list[bytes]]) -> None:
        server = make_lab(4)
        server.until("masked")
        first = {name: list(secrets) for name, secrets in traced.items()}
        server.keys(2)
        server.shares()
        server.train()
        assert sorted(server.members[0].context.state) == [HISTORY, "bract.secagg.2"]
        assert not any(holds(memory(server), secrets) for secrets in first.values())

    def test_holds_the_secrets_of_two_rounds_at_most(self, traced: dict[str, list[bytes]]) -> None:
        """Though a server asks for the keys of one round after another and leads none of them further."""
        server = make_lab(4)
        for number in range(1, 5):
            server.number = number
            server.tell(0, KEYS)
        assert sorted(server.members[0].context.state) == [HISTORY, "bract.secagg.3", "bract.secagg.4"]
        assert holds(memory(server), traced["secrets"]) == 2 * 3

    def test_never_holds_the_key_of_a_mask_nor_its_identity(self, traced: dict[str, list[bytes]]) -> None:
        server = make_lab(4)
        for stage in ("keys", "shares", "masked"):
            fresh = make_lab(4)
            fresh.until(stage)
            key = fresh.members[0].identity.key.private_bytes_raw()
            assert holds(memory(fresh), [*traced["masks"], key]) == 0
        server.until("masked")
        assert len(traced["masks"]) == 2 * 4 * 4

    def test_holds_nothing_of_its_vector(self) -> None:
        server = make_lab(4)
        server.until("masked")
        hidden = server.members[0].vector
        words = server.clear(0)
        assert holds(memory(server), [hidden.tobytes()[:24], words.tobytes()[:24]]) == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
def test_no_reply_holds_a_secret(traced: dict[str, list[bytes]], mode: str, exchange: str) -> None:
    server = make_lab(4, aggregation={"protocol": "secagg", "mode": mode, "key_exchange": exchange})
    server.until("masked")
    signed = {"signatures": server.consent(EVERY)} if mode == "malicious-server" else {}
    server.unmask(EVERY, **signed)
    keys = [member.identity.key.private_bytes_raw() for member in server.members]
    for reply in server.replies:
        assert holds(sent_bytes(reply), [*traced["secrets"], *traced["masks"], *keys]) == 0
    opened = b"".join(sent_bytes(reply) for reply in server.replies[-4:])
    before = b"".join(sent_bytes(reply) for reply in server.replies[:-4])
    own, mask = traced["shares"][0::2], traced["shares"][1::2]
    assert (holds(before, own), holds(before, mask)) == (0, 0)
    assert (holds(opened, own), holds(opened, mask)) == (16, 0)


@pytest.fixture
def whole_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that anybody logs, down to debugging, loggers that keep to themselves too."""
    apart = [logging.getLogger(name) for name in ("flwr", "bract", "opacus")]
    levels = [(logger, logger.level, logger.propagate) for logger in apart]
    for logger, _, propagate in levels:
        logger.setLevel(logging.DEBUG)
        if not propagate:
            logger.addHandler(caplog.handler)
    with caplog.at_level(logging.DEBUG):
        yield caplog
    for logger, level, _ in levels:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)


def failing(*given: Any) -> None:
    """Fail with all that was given in the fault's text."""
    raise RuntimeError(repr(given))


@pytest.mark.parametrize("mode", MODES)
def test_no_secret_is_logged_with_faults_at_every_stage(
    traced: dict[str, list[bytes]], whole_log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Each stage of the round has its fault."""
    server = make_lab(4, real=True, aggregation={"protocol": "secagg", "mode": mode})
    logging.getLogger("flwr").debug("flwr is heard")
    logging.getLogger("bract").debug("bract is heard")
    server.until("shares")
    broken = make_lab(4, real=True)
    broken.until("shares")
    with monkeypatch.context() as patch:
        patch.setattr(secagg, "unseal", failing)
        broken.tell(0, TRAIN, cohort=broken.invitation(0))
    server.train(EVERY)
    for kind in (KEYS, SHARES, TRAIN, CONSENT, UNMASK):
        for sections in ({}, {"cards": b"\1"}, {"survivors": b"\1"}, {"cohort": b"\1"}):
            server.tell(0, kind, **sections)
    signed = {"signatures": server.consent(EVERY)} if mode == "malicious-server" else {}
    server.unmask(EVERY, **signed)
    log = whole_log.text.encode() + repr([record.args for record in whole_log.records]).encode()
    assert all(
        word in log for word in (b"flwr is heard", b"bract is heard", b"(malformed)", b"(failed)", b"Traceback")
    )
    keys = [member.identity.key.private_bytes_raw() for member in server.members]
    assert holds(log, [*traced["secrets"], *traced["masks"], *traced["shares"], *keys]) == 0


def test_a_refusal_leaves_the_secrets_where_they_were(traced: dict[str, list[bytes]]) -> None:
    server = make_lab(4)
    server.until("shares")
    before = memory(server)
    assert said_code(server.tell(0, SHARES, cards=b"\1")) is Code.LOST
    assert memory(server) == before
    assert holds(before, traced["secrets"]) == 3
