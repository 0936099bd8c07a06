"""The ClientApp, driven by hand-made messages: its answers to offers, and to messages that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.common.serde import recorddict_to_proto

from bract.client import app as client_app
from bract.client.records import Records
from bract.client.terms import Terms
from bract.client.train import Task, contribution
from bract.privacy import Keystream, Plan, SystemEntropy, mechanism_of
from bract.privacy.messages import BOXES, CONSENT, KEYS, RAW, SECAGG, SHARES, UNMASK, WHO
from bract.privacy.server_view import ANSWER, UPDATE, Code, read_update
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
Sample = Callable[..., Records]
Call = Callable[..., Any]
COUNT, NODE = 51, 2


class TestAnUpdate:
    @pytest.mark.parametrize("noise", ["local", "central"])
    def test_goes_out_as_an_answer_and_one_vector_of_words(
        self, make: Make, node: Call, noise: str, offer: Call
    ) -> None:
        """Nothing else goes out."""
        plan = make(privacy={"noise": noise})
        reply = node(terms=Terms(trusted_server=True, clear_updates=True)).answer(offer(plan))
        content = reply.content
        assert set(content) == {ANSWER, UPDATE}
        assert dict(content.config_records) == {ANSWER: ConfigRecord({"code": "ok"})}
        assert not content.metric_records
        assert list(content.array_records[UPDATE]) == [UPDATE]
        array = content.array_records[UPDATE][UPDATE]
        words = mechanism_of(plan).ring.words(COUNT)
        assert (array.dtype, tuple(array.shape), array.stype, len(array.data)) == ("uint64", (words,), RAW, 8 * words)
        assert not reply.has_error()

    def test_is_the_mechanisms_with_keys_of_this_node_and_round(
        self, make: Make, sample: Sample, node: Call, offer: Call, vector: Call
    ) -> None:
        plan, records, entropy = make(training={"local_steps": 2}), sample(12), SeededEntropy(3)
        mechanism = mechanism_of(plan)

        def draw(*purpose: str | int) -> Keystream:
            return entropy.keystream("device", NODE, 4, *purpose)

        expected = contribution(Task(mechanism, vector(plan), records, draw)).vector
        reply = node(records, entropy=entropy).answer(offer(plan, number=4))
        array = reply.content.array_records[UPDATE][UPDATE]
        words = read_update(array.dtype, array.shape, array.stype, array.data, mechanism.ring.words(COUNT))
        assert np.array_equal(mechanism.ring.decode(words, COUNT), expected)

    def test_does_not_tell_how_many_records_there_are(
        self, make: Make, sample: Sample, node: Call, offer: Call
    ) -> None:
        replies = [node(sample(count)).answer(offer(make())) for count in (1, 500)]
        one, other = (recorddict_to_proto(reply.content).ByteSize() for reply in replies)
        assert one == other

    def test_goes_back_to_the_server_that_asked(self, make: Make, node: Call, offer: Call) -> None:
        metadata = node().answer(offer(make())).metadata
        assert (metadata.src_node_id, metadata.reply_to_message_id, metadata.message_type) == (NODE, "7", "train")

    def test_is_never_the_same_twice(self, make: Make, node: Call, offer: Call) -> None:
        replies = [node(entropy=SystemEntropy()).answer(offer(make())) for _ in range(2)]
        first, second = (r.content.array_records[UPDATE][UPDATE].data for r in replies)
        assert first != second

    def test_draws_every_key_for_its_own_node_round_purpose_and_step(
        self, make: Make, node: Call, offer: Call, is_update: Call
    ) -> None:
        drawn: list[tuple[str | int, ...]] = []

        class Watched(SystemEntropy):
            def keystream(self, *purpose: str | int) -> Keystream:
                drawn.append(purpose)
                return super().keystream(*purpose)

        member = node(entropy=Watched())
        for number in (1, 2):
            assert is_update(member.answer(offer(make(training={"local_steps": 2}), number)))
        assert len(drawn) == len(set(drawn)) == 6  # two samples, and the noise of both steps at once
        assert {(p[0], p[1]) for p in drawn} == {("device", NODE)}
        assert {p[2] for p in drawn} == {1, 2}


class TestAVectorOfAnotherLength:
    def test_is_answered_with_a_code(self, make: Make, node: Call, offer: Call, packed: Call, said: Call) -> None:
        for count in (1, COUNT - 1, COUNT + 1):
            member = node()
            assert said(member.answer(offer(make(), array=packed(np.zeros(count))))) is Code.MALFORMED
            assert (member.ran, member.counted) == ([], 0)

    def test_does_not_hinder_the_next_round(
        self, make: Make, node: Call, offer: Call, packed: Call, said: Call, is_update: Call
    ) -> None:
        member = node()
        said(member.answer(offer(make(), 1, packed(np.zeros(COUNT - 1)))))
        assert is_update(member.answer(offer(make(), 2)))


class TestOtherKindsOfMessages:
    """Flower raises for them, and its SuperNode answers with the text of what was raised."""

    @pytest.mark.parametrize("kind", ["evaluate", "query", "train.other", "evaluate.default", "query.data", "system"])
    def test_are_answered_with_nothing_but_their_own_name(
        self, make: Make, node: Call, kind: str, offer: Call, message: Call
    ) -> None:
        member = node()
        with pytest.raises(ValueError, match="No ") as caught:
            member.app(message(offer(make()), kind), member.context)
        category, _, action = kind.partition(".")
        assert str(caught.value) == f"No {category} function registered with name '{action or 'default'}'"
        assert caught.value.__cause__ is None
        assert not member.ran
        assert not member.context.state

    def test_named_train_default_are_offers_like_any_other(
        self, make: Make, node: Call, offer: Call, message: Call, is_update: Call
    ) -> None:
        member = node()
        assert is_update(member.app(message(offer(make()), "train.default"), member.context))
        assert member.counted == 1

    @pytest.mark.parametrize("kind", [KEYS, SHARES, BOXES, CONSENT, UNMASK])
    def test_of_secure_aggregation_are_malformed_without_it(
        self, make: Make, node: Call, kind: str, offer: Call, message: Call, said: Call
    ) -> None:
        """The plan has no secure aggregation."""
        member = node()
        for name in ("cards", "survivors", None):
            content = offer(make())
            content[SECAGG] = ConfigRecord({} if name is None else {name: b"x"})
            assert said(member.app(message(content, kind), member.context)) is Code.MALFORMED
        assert not member.ran
        assert member.counted == 0

    def test_are_the_offer_the_name_and_secure_aggregations(self) -> None:
        """The app knows no other message."""
        known = {"train.default", WHO, KEYS, SHARES, BOXES, CONSENT, UNMASK}
        assert set(client_app.app._registered_funcs) == known
        assert not client_app.app._mods
