"""A server that lies at will, as a hypothesis state machine: no sum may open over too few honest devices.

Each example draws a plan of any cell, a roster that is larger than the planned cohort, and a sequence of lies. Single
messages in any order are among them (`seat`, `say`, `replay`, `memory`), but few random sequences of these get
anywhere. So the lies that attacks on this kind of protocol are made of are steps of their own:

    cut      all devices into many cohorts, each with all colluders    crowd    strangers into the places
    starve   two lists of survivors, all but the victims often missing mislead  two lists of members
    split    a cohort into parts that see two lists                    twice    the end of a round
    overlap  two cohorts of one round that differ by one device        cohort   led to a stage, and left there

After each step the judge (`World.readable`) says which sums can be read, and `bounds` how many honest devices must be
in each. Sets of devices are drawn as sets of numbers; the empty set stands for all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bounds import least_honest, least_sum
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from lying_server import Honest, Round, Table
from scenes import CELLS, MODES, plan_of, terms_of, world_of

from bract.client.disk.step_journal import DiskJournal, MemoryJournal
from bract.privacy.messages import BOXES, CONSENT, KEYS, SHARES, TRAIN, UNMASK

MOST_HONEST = 10
WHO = st.just(frozenset[int]()) | st.frozensets(st.integers(0, MOST_HONEST - 1), min_size=1)
"""Some devices by number, or all of them."""

GONE = st.just(frozenset[int]()) | st.frozensets(st.integers(0, MOST_HONEST - 1), max_size=3)
"""Places at a table that are left out of a set."""

ROUNDS = st.just((0, 1, 1)) | st.tuples(st.sampled_from([*[0] * 9, 1]), st.integers(1, 8), st.integers(1, 6))
"""Rounds of two plans in eight runs, for a device refuses a run that it refused once; often the first of all."""

GROUPS = st.tuples(st.integers(0, MOST_HONEST - 1), st.sampled_from([*[0] * 9, *range(1, 9)]))
"""Devices that are seated together: from which one on, and how many; 0 stands for as many as there are places."""

STAGES = ("shares", "train", "unmask")


class TooFewHonest(AssertionError):
    """The server read a sum that it must not read."""


class LyingServer(RuleBasedStateMachine):
    modes = tuple(MODES)
    tables: Bundle[Table] = Bundle("tables")

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        self.seen = 0
        self.read = 0

    @initialize(
        size=st.sampled_from([4, 5, 5, 6, 7, 7, 8, 10]),
        mode=st.integers(0, 1),
        cell=st.sampled_from(CELLS),
        strangers=st.integers(0, 3),
        least=st.sampled_from([2, 2, 2, 4, 6]),
        stride=st.sampled_from([1, 3]),
        real=st.sampled_from([False, False, False, True]),
        disk=st.sampled_from([False] * 19 + [True]),
    )
    def start(
        self,
        size: int,
        mode: int,
        cell: tuple[str, str],
        strangers: int,
        least: int,
        stride: int,
        real: bool,
        disk: bool,
    ) -> None:
        plans = [
            plan_of(size, self.modes[mode % len(self.modes)], *cell, number=number, minimum=min(least, size))
            for number in (0, 1)
        ]
        self.terms = terms_of()
        folder = Path(self.open.enter_context(tempfile.TemporaryDirectory())) if disk else None
        self.world = world_of(
            *plans,
            honest=min(size - plans[0].colluders + strangers, MOST_HONEST),
            real=real,
            terms=self.terms,
            journal=lambda place: DiskJournal(folder / str(place)) if folder else MemoryJournal(),
            stride=stride,
        )
        self.open.enter_context(self.world.overhearing())
        self.kept = {device.place: self.world.snapshot(device) for device in self.world.honest}

    def teardown(self) -> None:
        self.open.close()

    def some(self, who: Iterable[int]) -> list[Honest]:
        honest = self.world.honest
        return [honest[place] for place in sorted({number % len(honest) for number in who})] or honest

    def group(self, round: Round, group: tuple[int, int], fewer: int = 0) -> Table:
        """The table of these devices and all colluders but so many."""
        honest, colluders = self.world.honest, len(self.world.colluders) - fewer
        first, count = group
        count = count or self.world.plans[round[0]].cohort.size - colluders
        chosen = {(first + step) % len(honest) for step in range(count)}
        return self.world.seat(round, [honest[place] for place in sorted(chosen)], colluders)

    # single messages

    @rule(target=tables, round=ROUNDS, group=GROUPS, fewer=st.sampled_from([0, 0, 0, 1]))
    def seat(self, round: Round, group: tuple[int, int], fewer: int) -> Table:
        """Ask devices that have shown no card of the round for one, and deal their cards."""
        return self.group(round, group, fewer)

    @rule(table=tables, kind=st.sampled_from([KEYS, SHARES, BOXES, TRAIN, CONSENT, UNMASK]), who=WHO, gone=GONE)
    def say(self, table: Table, kind: str, who: frozenset[int], gone: frozenset[int]) -> None:
        """Send some of those at a table a message of one kind; `gone` are left out of members or survivors."""
        for device in self.world.at(table, self.some(who)):
            match kind:
                case "query.keys":
                    self.world.keys(device, table.round)
                case "query.shares":
                    self.world.shares(device, table)
                case "query.boxes":
                    self.world.boxes(device, table, at_places(table, gone))
                case "train":
                    self.world.train(device, table, at_places(table, gone))
                case "query.consent":
                    self.world.consent(device, table.round, at_places(table, gone))
                case _:
                    self.world.unmask(device, table.round, at_places(table, gone))

    @rule(who=WHO, what=st.sampled_from(["lose", "keep", "put back"]))
    def memory(self, who: frozenset[int], what: str) -> None:
        """Have devices lose what is not on their disk, or remember what they have in memory, or put that back."""
        for device in self.some(who):
            match what:
                case "lose":
                    self.world.restart(device)
                case "keep":
                    self.kept[device.place] = self.world.snapshot(device)
                case _:
                    self.world.put_back(device, self.kept[device.place])

    @rule(message=st.integers(0, 1 << 10))
    def replay(self, message: int) -> None:
        """Send a message again, byte for byte."""
        if self.world.asked:
            self.world.again(message)

    # whole lies

    @rule(target=tables, round=ROUNDS, group=GROUPS, stage=st.sampled_from(STAGES), gone=GONE)
    def cohort(self, round: Round, group: tuple[int, int], stage: str, gone: frozenset[int]) -> Table:
        """Seat these devices with all colluders and lead them to a stage as an honest server would."""
        table = self.group(round, group)
        self._lead(table, stage, gone)
        return table

    @rule(round=ROUNDS, size=st.integers(1, MOST_HONEST), gone=GONE)
    def cut(self, round: Round, size: int, gone: frozenset[int]) -> None:
        """Cut all honest devices into cohorts of so many, each with all colluders, and run them to the end."""
        devices = self.world.honest
        for first in range(0, len(devices), size):
            self._lead(self.world.seat(round, devices[first : first + size]), "unmask", gone)

    @rule(round=ROUNDS, group=GROUPS)
    def crowd(self, round: Round, group: tuple[int, int]) -> None:
        """Seat one device with all colluders, and fill the places with devices that are on nobody's roster."""
        first = self.world.honest[group[0] % len(self.world.honest)]
        free = self.world.plans[round[0]].cohort.size - len(self.world.colluders) - 1
        self._lead(self.world.seat(round, [first], strangers=free), "unmask", ())

    @rule(round=ROUNDS, first=st.integers(0, MOST_HONEST - 1))
    def overlap(self, round: Round, first: int) -> None:
        """Have two cohorts in one round that differ by one device; half of them open the one, half the other.

        Those who are in both have masked one vector twice: what the sums differ by is that of two devices.
        """
        size = self.world.plans[round[0]].cohort.size - len(self.world.colluders)
        table = self.group(round, (first, size))
        self._lead(table, "train", ())
        half = self.world.at(table)[: -(-(size + 1) // 2)]
        self.world.end(round, {device.place: () for device in half})
        for device in self.world.at(table):
            self.world.restart(device)
            self.world.keys(device, round)
        table = self.group(round, (first + 1, size))
        self._lead(table, "train", ())
        self.world.end(round, {device.place: () for device in self.world.at(table) if device not in half})

    @rule(round=ROUNDS, group=GROUPS, victims=st.integers(1, 3))
    def twice(self, round: Round, group: tuple[int, int], victims: int) -> None:
        """End a round over one list; put memories back as they were, and end it over another."""
        table = self.group(round, group)
        self._lead(table, "train", ())
        sitting = self.world.at(table)
        memory = {device: self.world.snapshot(device) for device in sitting}
        for gone in (sitting[:victims], sitting[victims : victims + len(table.cards) - self._least(table)]):
            for device in sitting:
                self.world.put_back(device, memory[device])
            alive = [device for device in sitting if device not in gone]
            self.world.end(table.round, {device.place: keys_of(gone) for device in alive})

    @rule(round=ROUNDS, group=GROUPS, victims=st.integers(1, 3), more=st.sampled_from([0, 0, 1, 9]))
    def starve(self, round: Round, group: tuple[int, int], victims: int, more: int) -> None:
        """Have all but a few victims taken for dropouts, by as many devices as lists of survivors allow, or more."""
        table = self.group(round, group)
        self._lead(table, "train", ())
        sitting = self.world.at(table)
        self._tell_lists(table, sitting, sitting[victims:], more)

    @rule(round=ROUNDS, group=GROUPS, others=st.sampled_from([None, None, None, 0, 0, 1, 2, 3]))
    def mislead(self, round: Round, group: tuple[int, int], others: int | None) -> None:
        """Tell one device of few members and all others of all; then have the few members taken for dropouts."""
        table = self.group(round, group)
        self._lead(table, "shares", ())
        if not (sitting := self.world.at(table)):
            return
        fewest = self._least(table) - len(self.world.colluders) - 1
        company = sitting[1:][: fewest if others is None else others]
        self.world.train(sitting[0], table, keys_of(sitting[1:]) - keys_of(company))
        for device in sitting[1:]:
            self.world.train(device, table)
        self._tell_lists(table, sitting, company)

    @rule(round=ROUNDS, group=GROUPS, part=st.integers(1, MOST_HONEST), more=st.sampled_from([0, 0, 1]))
    def split(self, round: Round, group: tuple[int, int], part: int, more: int) -> None:
        """Show two parts of a cohort two lists: for each, as many of the other as may be dropped out."""
        table = self.group(round, group)
        self._lead(table, "train", ())
        sitting, quota = self.world.at(table), len(table.cards) - self._least(table) + more
        one, other = sitting[:part], sitting[part:]
        lists = {device.place: keys_of(other[:quota]) for device in one}
        self.world.end(round, lists | {device.place: keys_of(one[:quota]) for device in other})

    def _lead(self, table: Table, stage: str, gone: Iterable[int]) -> None:
        devices = self.world.at(table)
        shared = [self.world.shares(device, table) for device in devices]
        if stage == "shares" or not any(shared):
            return
        for device in devices:
            self.world.train(device, table)
        if stage == "unmask":
            self._close(table, devices, gone)

    def _close(self, table: Table, devices: Sequence[Honest], gone: Iterable[int]) -> None:
        self.world.end(table.round, {device.place: at_places(table, gone) for device in devices})

    def _tell_lists(self, table: Table, devices: Sequence[Honest], targets: Sequence[Honest], more: int = 0) -> None:
        """Show each device a list of its own, so that each target is missing in as many lists as can be."""
        dealt = deal_dropouts(devices, targets, len(table.cards) - self._least(table) + more)
        self.world.end(table.round, {place: keys_of(gone) for place, gone in dealt.items()})

    def _least(self, table: Table) -> int:
        return least_sum(self.world.plans[table.round[0]], self.terms)

    @invariant()
    def no_sum_opens_over_too_few_honest_devices(self) -> None:
        if not hasattr(self, "world") or self.world.news == self.seen:
            return
        self.seen = self.world.news
        for reading in self.world.readable():
            self.read += 1
            wanted = least_honest(reading.plan, self.terms, reading.seated)
            if len(reading.owners) < wanted:
                raise TooFewHonest(
                    f"a sum over {len(reading.owners)} honest devices opens, at least {wanted} must be in it: "
                    f"{reading.plan.cohort.size} planned, {reading.plan.colluders} collude"
                )


def at_places(table: Table, places: Iterable[int]) -> set[bytes]:
    """The identities at these places of a table."""
    return {table.cards[place].identity for place in places if place < len(table.cards)}


def keys_of(devices: Iterable[Honest]) -> set[bytes]:
    return {device.identity.public for device in devices}


def deal_dropouts(tellers: Sequence[Honest], targets: Sequence[Honest], quota: int) -> dict[int, list[Honest]]:
    """Who takes whom for a dropout: nobody itself, nobody more than the quota, and all targets about as often."""
    told: dict[int, list[Honest]] = {teller.place: [] for teller in tellers}
    often = {target.place: 0 for target in targets}
    for _ in range(max(quota, 0)):
        for teller in tellers:
            free = [t for t in targets if t is not teller and t not in told[teller.place]]
            if free:
                chosen = min(free, key=lambda target: often[target.place])
                told[teller.place].append(chosen)
                often[chosen.place] += 1
    return told


def attack(examples: int, machine: type[RuleBasedStateMachine] = LyingServer, **more: Any) -> None:
    """Try so many examples.

    Raises:
        TooFewHonest: one of them reads what must not be read.
    """
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=6,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            database=None,
            **more,
        ),
    )


UNSHRUNK = {"phases": (Phase.explicit, Phase.generate)}
"""For attacks that are to be found: the first is enough."""
