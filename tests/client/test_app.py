"""The ClientApp, driven by hand-made messages, as a server that means no good would send them."""

from __future__ import annotations

import logging
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_to_proto, recorddict_to_proto
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from bract.client import app as client_app
from bract.client.app import HISTORY, Device, make_app
from bract.client.records import Records
from bract.client.terms import Terms
from bract.client.train import MECHANISMS, Task
from bract.models import build, read_flat
from bract.privacy import BractError, DataError, Keystream, Plan, PlanError, SystemEntropy, read_plan
from bract.privacy.messages import ANSWER, OFFER, PARAMETERS, RAW, UPDATE, Code, read_update
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
Sample = Callable[..., Records]
COUNT, NODE = 51, 2
SECRET = "patient 4711 has the flu"


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages only in a process that knows which task it runs."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def context(**node_config: str) -> Context:
    return Context(run_id=1, node_id=NODE, node_config=dict(node_config), state=RecordDict(), run_config={})


def vector(plan: Plan) -> np.ndarray:
    return read_flat(build(plan.model.name, plan.data.shape, plan.data.classes, seed=0))


def packed(numbers: np.ndarray, **changes: Any) -> Array:
    fields = {"dtype": "float32", "shape": numbers.shape, "stype": RAW, "data": numbers.astype("<f4").tobytes()}
    return Array(**(fields | changes))


def offer(plan: Plan | str, number: Any = 1, array: Array | None = None, **extra: Any) -> RecordDict:
    text = plan if isinstance(plan, str) else plan.offered()
    array = array or packed(np.zeros(COUNT) if isinstance(plan, str) else vector(plan))
    fields = {"round": number, "plan": text, **extra}
    return RecordDict({OFFER: ConfigRecord(fields), PARAMETERS: ArrayRecord({PARAMETERS: array})})


def message(content: RecordDict, kind: str = "train") -> Message:
    made = Message(content, NODE, kind, ttl=60.0, group_id="1")
    made.metadata.__dict__["_message_id"] = "7"
    return made


def sent(reply: Message) -> bytes:
    """All bytes of a reply that reach the server."""
    assert reply.has_content()
    body = recorddict_to_proto(reply.content).SerializeToString() + message_to_proto(reply).SerializeToString()
    return body + repr(reply.metadata).encode()


def said(reply: Message) -> Code:
    """The code of a reply that must hold nothing but a code."""
    content = reply.content
    assert list(content) == [ANSWER]
    assert not content.array_records
    assert not content.metric_records
    assert list(content.config_records[ANSWER]) == ["code"]
    return Code(str(content.config_records[ANSWER]["code"]))


def is_update(reply: Message) -> bool:
    return reply.content.config_records[ANSWER]["code"] == "ok"


@dataclass
class Node:
    """A node with its app and its state, to which offers are made; `ran` counts how often it trained."""

    app: ClientApp
    context: Context
    ran: list[Task]

    def answer(self, content: RecordDict) -> Message:
        return self.app(message(content), self.context)

    @property
    def counted(self) -> int:
        history = self.context.state.config_records.get(HISTORY)
        return 0 if history is None else int(str(history["rounds"]))


@pytest.fixture
def node(sample: Sample) -> Callable[..., Node]:
    """A function: a node with `records`, and with what a `Device` takes besides."""

    def make_node(records: Records | None = None, **parts: Any) -> Node:
        ran: list[Task] = []
        mechanisms = parts.pop("mechanisms", MECHANISMS)

        def watched(cell: tuple[str, str]) -> Callable[[Task], Any]:
            return lambda task: ran.append(task) or mechanisms[cell](task)

        device = Device(
            records or sample(12),
            parts.pop("terms", Terms()),
            mechanisms={c: watched(c) for c in mechanisms},
            **parts,
        )
        return Node(make_app(lambda _: device), context(), ran)

    return make_node


class TestAnUpdate:
    @pytest.mark.parametrize("noise", ["local", "central"])
    def test_goes_out_as_an_answer_and_one_int64_vector_and_nothing_else(
        self, make: Make, node: Callable[..., Node], noise: str
    ) -> None:
        plan = make(privacy={"noise": noise})
        reply = node(terms=Terms(trusted_server=True)).answer(offer(plan))
        content = reply.content
        assert set(content) == {ANSWER, UPDATE}
        assert dict(content.config_records) == {ANSWER: ConfigRecord({"code": "ok"})}
        assert not content.metric_records
        assert list(content.array_records[UPDATE]) == [UPDATE]
        array = content.array_records[UPDATE][UPDATE]
        assert (array.dtype, tuple(array.shape), array.stype, len(array.data)) == ("int64", (COUNT,), RAW, 8 * COUNT)
        assert not reply.has_error()

    def test_is_what_the_mechanism_made_with_keys_of_this_node_and_round(
        self, make: Make, sample: Sample, node: Callable[..., Node]
    ) -> None:
        plan, records, entropy = make(training={"local_steps": 2}), sample(12), SeededEntropy(3)

        def draw(*purpose: str | int) -> Keystream:
            return entropy.keystream("device", NODE, 5, *purpose)

        expected = MECHANISMS[plan.cell](Task(plan, vector(plan), records, draw)).vector
        reply = node(records, entropy=entropy).answer(offer(plan, number=5))
        array = reply.content.array_records[UPDATE][UPDATE]
        assert np.array_equal(read_update(array.dtype, array.shape, array.stype, array.data, COUNT), expected)

    def test_does_not_tell_how_many_records_there_are(
        self, make: Make, sample: Sample, node: Callable[..., Node]
    ) -> None:
        replies = [node(sample(count)).answer(offer(make())) for count in (1, 500)]
        one, other = (recorddict_to_proto(reply.content).ByteSize() for reply in replies)
        assert one == other

    def test_goes_back_to_the_server_that_asked(self, make: Make, node: Callable[..., Node]) -> None:
        metadata = node().answer(offer(make())).metadata
        assert (metadata.src_node_id, metadata.reply_to_message_id, metadata.message_type) == (NODE, "7", "train")

    def test_is_never_the_same_twice(self, make: Make, node: Callable[..., Node]) -> None:
        replies = [node(entropy=SystemEntropy()).answer(offer(make())) for _ in range(2)]
        first, second = (r.content.array_records[UPDATE][UPDATE].data for r in replies)
        assert first != second

    def test_draws_every_key_for_its_own_node_round_purpose_and_step(
        self, make: Make, node: Callable[..., Node]
    ) -> None:
        drawn: list[tuple[str | int, ...]] = []

        class Watched(SystemEntropy):
            def keystream(self, *purpose: str | int) -> Keystream:
                drawn.append(purpose)
                return super().keystream(*purpose)

        member = node(entropy=Watched())
        for number in (1, 2):
            assert is_update(member.answer(offer(make(training={"local_steps": 2}), number)))
        assert len(drawn) == len(set(drawn)) == 8
        assert {(p[0], p[1]) for p in drawn} == {("device", NODE)}
        assert {p[2] for p in drawn} == {1, 2}


class TestARefusal:
    """Only a code goes out, whatever was wrong, and no training runs."""

    def refused(self, member: Node, content: RecordDict, code: Code) -> None:
        before = repr(member.context.state)
        assert said(member.answer(content)) is code
        assert not member.ran
        assert repr(member.context.state) == before

    @pytest.mark.parametrize("missing", [OFFER, PARAMETERS])
    def test_of_an_offer_that_lacks_a_record(self, make: Make, node: Callable[..., Node], missing: str) -> None:
        content = offer(make())
        del content[missing]
        self.refused(node(), content, Code.MALFORMED)

    def test_of_no_offer_at_all(self, node: Callable[..., Node]) -> None:
        self.refused(node(), RecordDict(), Code.MALFORMED)

    @pytest.mark.parametrize("names", [[], ["a", "b"]])
    def test_of_none_or_two_vectors_of_parameters(
        self, make: Make, node: Callable[..., Node], names: list[str]
    ) -> None:
        content = offer(make())
        content[PARAMETERS] = ArrayRecord({name: packed(np.zeros(COUNT)) for name in names})
        self.refused(node(), content, Code.MALFORMED)

    @pytest.mark.parametrize("number", [0, -1, "1", 1.0, b"1", [1]])
    def test_of_a_round_that_is_no_number_from_one(self, make: Make, node: Callable[..., Node], number: Any) -> None:
        self.refused(node(), offer(make(), number), Code.MALFORMED)

    def test_of_a_round_that_is_true(self, make: Make, node: Callable[..., Node]) -> None:
        self.refused(node(), offer(make(), True), Code.MALFORMED)

    def test_of_an_offer_with_a_field_more(self, make: Make, node: Callable[..., Node]) -> None:
        self.refused(node(), offer(make(), clip_norm=5.0), Code.MALFORMED)

    @pytest.mark.parametrize("field", ["round", "plan"])
    def test_of_an_offer_with_a_field_less(self, make: Make, node: Callable[..., Node], field: str) -> None:
        content = offer(make())
        del content.config_records[OFFER][field]
        self.refused(node(), content, Code.MALFORMED)

    @pytest.mark.parametrize(
        "changes",
        [
            {"dtype": "float64"},
            {"dtype": "int32"},
            {"stype": "numpy.ndarray"},
            {"shape": (COUNT, 1)},
            {"shape": (3, 17)},
            {"shape": ()},
            {"shape": (COUNT - 1,)},
            {"shape": (COUNT + 1,)},
            {"shape": (-COUNT,)},
            {"data": b""},
            {"data": b"\0" * (4 * COUNT - 1)},
        ],
    )
    def test_of_parameters_that_are_not_what_their_record_says(
        self, make: Make, node: Callable[..., Node], changes: dict[str, Any]
    ) -> None:
        plan = make()
        self.refused(node(), offer(plan, array=packed(vector(plan), **changes)), Code.MALFORMED)

    @pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
    def test_of_parameters_that_are_not_finite(self, make: Make, node: Callable[..., Node], poison: float) -> None:
        parameters = vector(make()).copy()
        parameters[-1] = poison
        self.refused(node(), offer(make(), array=packed(parameters)), Code.MALFORMED)

    @pytest.mark.parametrize(
        ("terms", "tables"),
        [
            ({"max_epsilon": 7.0}, {}),
            ({"max_delta": 1e-5}, {}),
            ({"models": ("cnn",)}, {}),
            ({}, {"privacy": {"noise": "central"}}),
            ({}, {"privacy": {"epsilon": 11.0}}),
        ],
    )
    def test_of_a_plan_over_the_owners_terms(
        self, make: Make, node: Callable[..., Node], terms: dict[str, Any], tables: dict[str, Any]
    ) -> None:
        self.refused(node(terms=Terms(**terms)), offer(make(**tables)), Code.TERMS)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('unit = "record"', 'unit = "none"'),
            ('unit = "record"', 'unit = "client"'),
            ("[privacy]", "[privacy]\nclip = 5.0"),
            ("[privacy]", "[mechanism]\nname = 1\n\n[privacy]"),
            ("[privacy]", "trust = true\n\n[privacy]"),
            ("[privacy]", "[privacy"),
            ("epsilon = 8.0", "epsilon = inf"),
            ("epsilon = 8.0", "epsilon = nan"),
            ("epsilon = 8.0", "epsilon = 0.01"),
            ("clip_norm = 1.0", "clip_norm = inf"),
            ("clip_norm = 1.0", "clip_norm = 0"),
            ("sampling_rate = 0.5", "sampling_rate = 1.5"),
            ("noise_multiplier = 3.0", "noise_multiplier = 0.0"),
            ("noise_multiplier = 3.0", "noise_multiplier = 0.3"),
            ("noise_multiplier = 3.0", "noise_multiplier = -3.0"),
            ("rounds = 4", "rounds = 4000"),
            ("delta = 0.001", "delta = 0.5"),
            ("local_steps = 1", "local_steps = 100000"),
        ],
    )
    def test_of_a_plan_that_is_no_plan_of_a_deployment(
        self, make: Make, node: Callable[..., Node], old: str, new: str
    ) -> None:
        text = make().offered()
        assert old in text
        self.refused(node(terms=Terms(max_delta=0.9)), offer(text.replace(old, new)), Code.PLAN)

    @pytest.mark.parametrize("text", ["", "=", "\0", "x" * 100_000, "[data]\n" * 2])
    def test_of_a_plan_that_cannot_be_read(self, make: Make, node: Callable[..., Node], text: str) -> None:
        code = said(node().answer(offer(text)))
        assert code in (Code.PLAN, Code.TERMS)

    def test_of_a_plan_that_nests_too_deep_to_be_read(self, node: Callable[..., Node]) -> None:
        member = node()
        assert said(member.answer(offer("x = " + "[" * 100_000))) in (Code.PLAN, Code.FAILED)
        assert not member.ran

    def test_by_a_device_whose_records_have_another_shape(
        self, make: Make, node: Callable[..., Node], sample: Sample
    ) -> None:
        records = sample(4)
        other = Records(records.features.flatten(1), records.labels)
        self.refused(node(other), offer(make()), Code.DATA)


class TestAVectorOfAnotherLength:
    def test_is_answered_with_a_code(self, make: Make, node: Callable[..., Node]) -> None:
        for count in (1, COUNT - 1, COUNT + 1):
            assert said(node().answer(offer(make(), array=packed(np.zeros(count))))) is Code.FAILED

    def test_does_not_hinder_the_next_round(self, make: Make, node: Callable[..., Node]) -> None:
        member = node()
        said(member.answer(offer(make(), 1, packed(np.zeros(COUNT - 1)))))
        assert is_update(member.answer(offer(make(), 2)))


class TestTheCountOfRounds:
    def test_ends_with_the_rounds_that_the_plans_noise_was_sized_for(
        self, make: Make, node: Callable[..., Node]
    ) -> None:
        plan, member = make(), node()
        assert plan.participations == 2
        assert is_update(member.answer(offer(plan, 1)))
        assert is_update(member.answer(offer(plan, 2)))
        assert [said(member.answer(offer(plan, number))) for number in (3, 4, 1, 2**62)] == [Code.SPENT] * 4
        assert len(member.ran) == 2

    @pytest.mark.parametrize("number", [1, 6, 7])
    def test_refuses_a_round_that_is_not_after_the_last(
        self, make: Make, node: Callable[..., Node], number: int
    ) -> None:
        plan, member = make(cohort={"rounds": 10}), node()
        assert is_update(member.answer(offer(plan, 7)))
        assert said(member.answer(offer(plan, number))) is Code.MALFORMED
        assert member.counted == len(member.ran) == 1

    def test_is_kept_in_the_nodes_state_alone(self, make: Make, node: Callable[..., Node]) -> None:
        first, second = node(), node()
        for number in (1, 2):
            first.answer(offer(make(), number))
        second.context.state = first.context.state
        assert said(second.answer(offer(make(), 3))) is Code.SPENT

    def test_holds_nothing_of_the_records(self, make: Make, node: Callable[..., Node]) -> None:
        member = node()
        member.answer(offer(make(), 3))
        assert dict(member.context.state) == {HISTORY: ConfigRecord({"rounds": 1, "last": 3, "plan": make().digest})}

    def test_includes_a_round_that_failed_after_it_began(self, make: Make, node: Callable[..., Node]) -> None:
        def fail(task: Task) -> None:
            raise RuntimeError

        member = node(mechanisms={cell: fail for cell in MECHANISMS})
        codes = [said(member.answer(offer(make(), number))) for number in (1, 2, 3)]
        assert codes == [Code.FAILED, Code.FAILED, Code.SPENT]

    def test_does_not_include_offers_that_were_refused(self, make: Make, node: Callable[..., Node]) -> None:
        member = node()
        said(member.answer(offer(make(privacy={"noise": "central"}), 1)))
        said(member.answer(offer("not a plan", 2)))
        said(member.answer(offer(make(), 0)))
        assert member.counted == 0
        assert is_update(member.answer(offer(make(), 1)))

    def test_is_of_one_plan(self, make: Make, node: Callable[..., Node]) -> None:
        """Each plan here spends the whole budget in its own rounds: to take part in both spends it twice."""
        member = node()
        plans = [make(cohort={"rounds": rounds}, privacy={"noise_multiplier": None}) for rounds in (2, 4)]
        assert is_update(member.answer(offer(plans[0], 1)))
        assert not is_update(member.answer(offer(plans[1], 2)))


class TestTheCode:
    """A code leaves the device without noise, so it must not depend on a record."""

    def test_does_not_tell_whether_some_record_has_a_label(
        self, make: Make, sample: Sample, node: Callable[..., Node]
    ) -> None:
        records = sample(6)
        records.labels[:] = 0
        more = Records(records.features, records.labels.clone())
        more.labels[5] = 2
        content = offer(make(data={"classes": 2}))
        assert node(records).answer(content).content[ANSWER] == node(more).answer(content).content[ANSWER]

    def test_does_not_tell_whether_there_is_a_record(
        self, make: Make, sample: Sample, node: Callable[..., Node]
    ) -> None:
        none = sample(2).select(np.zeros(2, dtype=np.bool_))
        one = sample(1)
        content = offer(make())
        empty = Device(none, Terms())
        found = make_app(lambda _: empty)(message(content), context()).content[ANSWER]
        assert found == node(one).answer(content).content[ANSWER]


FAULTS = [
    RuntimeError(SECRET),
    ValueError(SECRET),
    KeyError(SECRET),
    OSError(5, SECRET, SECRET),
    MemoryError(SECRET),
    RecursionError(SECRET),
    AssertionError(SECRET),
    UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    BractError(SECRET, SECRET),
    PlanError(SECRET, SECRET),
    DataError(SECRET, SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
    type(SECRET, (Exception,), {})(SECRET),
    StopIteration(SECRET),
]


class TestNoWordOfAFault:
    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
    def test_in_training_leaves_the_device(
        self, make: Make, node: Callable[..., Node], caplog: pytest.LogCaptureFixture, fault: Exception
    ) -> None:
        def fail(task: Task) -> None:
            raise fault from ValueError(SECRET)

        with caplog.at_level(logging.DEBUG):
            reply = node(mechanisms={cell: fail for cell in MECHANISMS}).answer(offer(make()))
        assert said(reply) in (Code.FAILED, Code.PLAN, Code.DATA)
        assert SECRET.encode() not in sent(reply)
        assert caplog.records  # the owner reads why in the device's own log

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
    def test_in_opening_the_device_leaves_it(self, make: Make, fault: Exception) -> None:
        def open_device(_: Context) -> Device:
            raise fault

        reply = make_app(open_device)(message(offer(make())), context())
        said(reply)
        assert SECRET.encode() not in sent(reply)

    def test_in_reading_the_plan_leaves_the_device(self, make: Make, node: Callable[..., Node]) -> None:
        reply = node().answer(offer(make().offered() + f'\n[data]\nname = "{SECRET}"'))
        assert said(reply) is Code.PLAN
        assert SECRET.encode() not in sent(reply)

    def test_in_a_record_that_training_chokes_on_leaves_the_device(
        self, make: Make, sample: Sample, node: Callable[..., Node]
    ) -> None:
        records = sample(12)
        records.features[:] = np.nan
        array = node(records).answer(offer(make())).content.array_records[UPDATE][UPDATE]
        assert np.abs(np.frombuffer(array.data, dtype="<i8")).max() > 0


class TestOtherKindsOfMessages:
    """Flower raises for them, and its SuperNode answers with the text of what was raised."""

    @pytest.mark.parametrize("kind", ["evaluate", "query", "train.other", "evaluate.default", "query.data", "system"])
    def test_are_answered_with_nothing_but_their_own_name(
        self, make: Make, node: Callable[..., Node], kind: str
    ) -> None:
        member = node()
        with pytest.raises(ValueError, match="No ") as caught:
            member.app(message(offer(make()), kind), member.context)
        category, _, action = kind.partition(".")
        assert str(caught.value) == f"No {category} function registered with name '{action or 'default'}'"
        assert caught.value.__cause__ is None
        assert not member.ran
        assert not member.context.state

    def test_named_train_default_are_offers_like_any_other(self, make: Make, node: Callable[..., Node]) -> None:
        member = node()
        assert is_update(member.app(message(offer(make()), "train.default"), member.context))
        assert member.counted == 1

    def test_the_app_knows_no_message_but_the_offer(self) -> None:
        assert set(client_app.app._registered_funcs) == {"train.default"}
        assert not client_app.app._mods


@pytest.fixture
def shard(tmp_path: Path, sample: Sample) -> Path:
    """A device's data file."""
    client_app._records_of.cache_clear()
    records, path = sample(12), tmp_path / "records.npz"
    np.savez(path, x=records.features.numpy(), y=records.labels.numpy())
    return path


class TestTheDeployedApp:
    """The app as Flower loads it, with nothing but the node's own settings."""

    def test_answers_with_an_update_under_the_default_terms(self, make: Make, shard: Path) -> None:
        reply = client_app.app(message(offer(make())), context(data=str(shard)))
        assert is_update(reply)

    def test_keeps_to_the_terms_that_the_node_names(self, make: Make, shard: Path, tmp_path: Path) -> None:
        terms = tmp_path / "terms.toml"
        central = offer(make(privacy={"noise": "central"}))
        assert said(client_app.app(message(central), context(data=str(shard)))) is Code.TERMS
        terms.write_text("trusted_server = true\n")
        assert is_update(client_app.app(message(central), context(data=str(shard), terms=str(terms))))
        terms.write_text("trusted_server = true\nmax_epsilon = 1.0\n")
        assert said(client_app.app(message(central), context(data=str(shard), terms=str(terms)))) is Code.TERMS

    @pytest.mark.parametrize("text", ["max_epsilon = inf", "trust = true", "=", None])
    def test_takes_no_part_while_its_terms_cannot_be_read(
        self, make: Make, shard: Path, tmp_path: Path, text: str | None
    ) -> None:
        terms = tmp_path / "terms.toml"
        if text is not None:
            terms.write_text(text)
        reply = client_app.app(message(offer(make())), context(data=str(shard), terms=str(terms)))
        assert said(reply) is Code.PLAN
        assert str(tmp_path).encode() not in sent(reply)

    @pytest.mark.parametrize("data", ["", "missing.npz", "/dev/null"])
    def test_says_data_and_no_path_where_there_are_no_data(self, make: Make, tmp_path: Path, data: str) -> None:
        path = str(tmp_path / data) if data else ""
        reply = client_app.app(message(offer(make())), context(data=path))
        assert said(reply) is Code.DATA
        assert str(tmp_path).encode() not in sent(reply)

    def test_reads_no_settings_that_come_with_the_run(self, make: Make, shard: Path, tmp_path: Path) -> None:
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
    def test_knows_nothing_of_plans_that_protect_nobody(self, make: Make, shard: Path, old: str, new: str) -> None:
        content = offer(make().offered().replace(old, new))
        assert said(client_app.app(message(content), context(data=str(shard)))) is Code.PLAN

    def test_takes_no_seed_from_the_server(self, make: Make, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_takes_no_code_from_a_data_file(self, make: Make, tmp_path: Path) -> None:
        path = tmp_path / "pickled.npz"
        np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1, dtype=int))
        assert said(client_app.app(message(offer(make())), context(data=str(path)))) is Code.DATA


def valid(content: RecordDict, terms: Terms) -> bool:
    """Whether an offer is one that a device of these terms may answer with an update."""
    fields = dict(content.config_records.get(OFFER, ConfigRecord()))
    arrays = list(content.array_records.get(PARAMETERS, ArrayRecord()).values())
    if set(fields) != {"round", "plan"} or len(arrays) != 1:
        return False
    number, text, array = fields["round"], fields["plan"], arrays[0]
    if isinstance(number, bool) or not (isinstance(number, int) and number >= 1 and isinstance(text, str)):
        return False
    try:
        terms.check(read_plan(text))
    except Exception:
        return False
    right = (array.dtype, tuple(array.shape), array.stype, len(array.data)) == ("float32", (COUNT,), RAW, 4 * COUNT)
    return right and bool(np.isfinite(np.frombuffer(array.data, dtype="<f4")).all())


scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20), st.binary(max_size=20), st.booleans()
)
junk = st.one_of(scalars, st.lists(st.integers(-9, 9), max_size=3), st.lists(st.text(max_size=3), max_size=3))


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """The text with a few characters left out or put in; no digit is put in, so no count grows."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text) - 1))
        put = draw(st.sampled_from(["", *'=[]"#\n x.-_', *string.ascii_lowercase]))
        text = text[:at] + put + text[at + draw(st.integers(0, 1)) :]
    return text


PARTS = ("round", "plan", "extra", "array", "names", "records")
numbers = junk.filter(lambda number: not isinstance(number, bool))  # round = true has a test of its own


@st.composite
def spoilt_arrays(draw: st.DrawFn, right: bytes) -> Array:
    cut = draw(st.integers(0, len(right)))
    cuts = st.binary(max_size=8).map(lambda put: right[:cut] + put + right[cut + 8 :])
    return Array(
        dtype=draw(st.sampled_from(["float32", "float32", "float64", "int64", ""])),
        shape=draw(st.one_of(st.just((COUNT,)), st.lists(st.integers(-2, 60), max_size=3).map(tuple))),
        stype=draw(st.sampled_from([RAW, RAW, "numpy.ndarray", ""])),
        data=draw(st.one_of(st.just(right), cuts)),
    )


@st.composite
def offers(draw: st.DrawFn, text: str, right: bytes) -> RecordDict:
    """An offer in which up to two parts are not what they should be, or only look so."""
    spoilt = draw(st.sets(st.sampled_from(PARTS), max_size=2))
    array = Array(dtype="float32", shape=(COUNT,), stype=RAW, data=right)
    if "array" in spoilt:
        array = draw(spoilt_arrays(right))
    fields: dict[str, Any] = {"round": draw(st.integers(1, 2**63 - 1)), "plan": text}
    if "round" in spoilt:
        fields["round"] = draw(numbers)
    if "plan" in spoilt:
        fields["plan"] = draw(st.one_of(edited(text), edited(text), junk))
    if "extra" in spoilt:
        fields |= draw(st.dictionaries(st.text(max_size=8), junk, max_size=2))
    names = draw(st.lists(st.text(max_size=3), max_size=2)) if "names" in spoilt else [PARAMETERS]
    records = {OFFER: ConfigRecord(fields), PARAMETERS: ArrayRecord(dict.fromkeys(names, array))}
    if "records" in spoilt:
        others = st.sampled_from([ConfigRecord(), ArrayRecord(), MetricRecord({"a": 1}), *records.values()])
        records |= draw(st.dictionaries(st.sampled_from([OFFER, PARAMETERS, ANSWER, UPDATE]), others, max_size=2))
    return RecordDict(records)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_offered_the_app_answers_and_with_an_update_only_to_a_valid_offer(
    make: Make, sample: Sample, data: st.DataObject
) -> None:
    plan, terms = make(), Terms()
    content = data.draw(offers(plan.offered(), vector(plan).astype("<f4").tobytes()))
    device = Device(sample(3), terms)
    reply = make_app(lambda _: device)(message(content), context())
    event("valid" if valid(content, terms) else "not valid")
    if valid(content, terms):
        assert is_update(reply)
        assert set(reply.content) == {ANSWER, UPDATE}
    else:
        assert said(reply) is not Code.OK


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(1, 6), max_size=12))
def test_whatever_rounds_are_offered_each_is_taken_part_in_once_and_no_more_than_the_plan_says(
    make: Make, sample: Sample, numbers: list[int]
) -> None:
    plan, device, state = make(), Device(sample(3), Terms()), context()
    app = make_app(lambda _: device)
    taken = [number for number in numbers if is_update(app(message(offer(plan, number)), state))]
    assert len(taken) <= plan.participations
    assert len(set(taken)) == len(taken)
    assert bool(taken) == bool(numbers)
