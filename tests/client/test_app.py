"""The ClientApp, driven by hand-made messages: its answers to offers, and to messages that are none."""

from __future__ import annotations

import numpy as np
import pytest
from devices import (
    first_vector,
    holds_update,
    make_message,
    make_node,
    make_offer,
    make_tiny_plan,
    packed_array,
    random_records,
    said_code,
)
from flwr.app import ConfigRecord
from flwr.common.serde import recorddict_to_proto

from bract.client import app as client_app
from bract.client.terms import Terms
from bract.client.train import Task, contribution
from bract.privacy import Keystream, SystemEntropy, mechanism_of
from bract.privacy.messages import BOXES, CONSENT, KEYS, RAW, SECAGG, SHARES, UNMASK, WHO
from bract.privacy.server_view import ANSWER, UPDATE, Code, read_update
from bract.simulations.seeded import SeededEntropy

COUNT, NODE = 51, 2


class TestAnUpdate:
    @pytest.mark.parametrize("noise", ["local", "central"])
    def test_goes_out_as_an_answer_and_one_vector_of_words(self, noise: str) -> None:
        """Nothing else goes out."""
        plan = make_tiny_plan(privacy={"noise": noise})
        reply = make_node(terms=Terms(trusted_server=True, clear_updates=True)).answer(make_offer(plan))
        content = reply.content
        assert set(content) == {ANSWER, UPDATE}
        assert dict(content.config_records) == {ANSWER: ConfigRecord({"code": "ok"})}
        assert not content.metric_records
        assert list(content.array_records[UPDATE]) == [UPDATE]
        array = content.array_records[UPDATE][UPDATE]
        words = mechanism_of(plan).grid.ring.words(COUNT)
        assert (array.dtype, tuple(array.shape), array.stype, len(array.data)) == ("uint64", (words,), RAW, 8 * words)
        assert not reply.has_error()

    def test_is_the_mechanisms_with_keys_of_this_node_and_round(self) -> None:
        plan, records, entropy = make_tiny_plan(training={"local_steps": 2}), random_records(12), SeededEntropy(3)
        mechanism = mechanism_of(plan)

        def draw(*purpose: str | int) -> Keystream:
            return entropy.keystream("device", NODE, 4, *purpose)

        expected = contribution(Task(mechanism, first_vector(plan), records, draw)).vector
        reply = make_node(records, entropy=entropy).answer(make_offer(plan, number=4))
        array = reply.content.array_records[UPDATE][UPDATE]
        words = read_update(array.dtype, array.shape, array.stype, array.data, mechanism.grid.ring.words(COUNT))
        assert np.array_equal(mechanism.grid.ring.decode(words, COUNT), expected)

    def test_does_not_tell_how_many_records_there_are(self) -> None:
        replies = [make_node(random_records(count)).answer(make_offer(make_tiny_plan())) for count in (1, 500)]
        one, other = (recorddict_to_proto(reply.content).ByteSize() for reply in replies)
        assert one == other

    def test_goes_back_to_the_server_that_asked(self) -> None:
        metadata = make_node().answer(make_offer(make_tiny_plan())).metadata
        assert (metadata.src_node_id, metadata.reply_to_message_id, metadata.message_type) == (NODE, "7", "train")

    def test_is_never_the_same_twice(self) -> None:
        replies = [make_node(entropy=SystemEntropy()).answer(make_offer(make_tiny_plan())) for _ in range(2)]
        first, second = (r.content.array_records[UPDATE][UPDATE].data for r in replies)
        assert first != second

    def test_draws_every_key_for_its_own_node_round_purpose_and_step(self) -> None:
        drawn: list[tuple[str | int, ...]] = []

        class Watched(SystemEntropy):
            def keystream(self, *purpose: str | int) -> Keystream:
                drawn.append(purpose)
                return super().keystream(*purpose)

        member = make_node(entropy=Watched())
        for number in (1, 2):
            assert holds_update(member.answer(make_offer(make_tiny_plan(training={"local_steps": 2}), number)))
        assert len(drawn) == len(set(drawn)) == 6  # two samples, and the noise of both steps at once
        assert {(p[0], p[1]) for p in drawn} == {("device", NODE)}
        assert {p[2] for p in drawn} == {1, 2}


class TestAVectorOfAnotherLength:
    def test_is_answered_with_a_code(self) -> None:
        for count in (1, COUNT - 1, COUNT + 1):
            member = make_node()
            assert (
                said_code(member.answer(make_offer(make_tiny_plan(), array=packed_array(np.zeros(count)))))
                is Code.MALFORMED
            )
            assert (member.ran, member.counted) == ([], 0)

    def test_does_not_hinder_the_next_round(self) -> None:
        member = make_node()
        said_code(member.answer(make_offer(make_tiny_plan(), 1, packed_array(np.zeros(COUNT - 1)))))
        assert holds_update(member.answer(make_offer(make_tiny_plan(), 2)))


class TestOtherKindsOfMessages:
    """Flower raises for them, and its SuperNode answers with the text of what was raised."""

    @pytest.mark.parametrize("kind", ["evaluate", "query", "train.other", "evaluate.default", "query.data", "system"])
    def test_are_answered_with_nothing_but_their_own_name(self, kind: str) -> None:
        member = make_node()
        with pytest.raises(ValueError, match="No ") as caught:
            member.app(make_message(make_offer(make_tiny_plan()), kind), member.context)
        category, _, action = kind.partition(".")
        assert str(caught.value) == f"No {category} function registered with name '{action or 'default'}'"
        assert caught.value.__cause__ is None
        assert not member.ran
        assert not member.context.state

    def test_named_train_default_are_offers_like_any_other(self) -> None:
        member = make_node()
        assert holds_update(member.app(make_message(make_offer(make_tiny_plan()), "train.default"), member.context))
        assert member.counted == 1

    @pytest.mark.parametrize("kind", [KEYS, SHARES, BOXES, CONSENT, UNMASK])
    def test_of_secure_aggregation_are_malformed_without_it(self, kind: str) -> None:
        """The plan has no secure aggregation."""
        member = make_node()
        for name in ("cards", "survivors", None):
            content = make_offer(make_tiny_plan())
            content[SECAGG] = ConfigRecord({} if name is None else {name: b"x"})
            assert said_code(member.app(make_message(content, kind), member.context)) is Code.MALFORMED
        assert not member.ran
        assert member.counted == 0

    def test_are_the_offer_the_name_and_secure_aggregations(self) -> None:
        """The app knows no other message."""
        known = {"train.default", WHO, KEYS, SHARES, BOXES, CONSENT, UNMASK}
        assert set(client_app.app._registered_funcs) == known
        assert not client_app.app._mods
