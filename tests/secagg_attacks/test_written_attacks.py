"""Attacks on who is in a sum, written down one by one, at the sizes that plans have (the complete graph).

Each says what the server tries, sees the device refuse where it should, and then asks the judge what can be read of
all that the server was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from bounds import least_honest, least_sum
from lying_server import Honest, Table, World, code_of
from machine import at_places, deal_dropouts, keys_of
from scenes import plan_of, terms_of, world_of

from bract.privacy.messages import CONSENT, SHARES, TRAIN, UNMASK
from bract.privacy.secagg.bitset import to_bits
from bract.privacy.secagg.consent import consent, pack_consents
from bract.privacy.server_view import Code

ONE, TWO = (0, 1, 1), (0, 1, 2)
REFUSED = {Code.REFUSED, Code.MALFORMED}


@contextmanager
def attacking(
    size: int = 10, mode: str = "malicious-server", honest: int | None = None, plans: int = 1
) -> Iterator[World]:
    """A world under plans for so many; whatever an attack read in the end, it read no more than the docs say."""
    made = [plan_of(size, mode, number=number) for number in range(plans)]
    world = world_of(*made, honest=honest or size - made[0].colluders)
    with world.overhearing():
        yield world
    for reading in world.readable():
        assert len(reading.owners) >= least_honest(reading.plan, terms_of(), reading.seated)


def lead(world: World, table: Table, stage: str = "train") -> list[Honest]:
    """Lead all at a table to a stage; those who sit there."""
    sitting = world.at(table)
    assert all([world.shares(device, table) for device in sitting])
    if stage == "train":
        assert all([world.train(device, table) for device in sitting])
    return sitting


def end(world: World, table: Table, gone: Iterable[bytes] = ()) -> list[bool]:
    """Have all at a table who are not gone end the round over one list; who opened its shares."""
    lost = set(gone)
    alive = [device.place for device in world.at(table) if device.identity.public not in lost]
    return world.end(table.round, dict.fromkeys(alive, lost))


def owners(world: World) -> list[set[int]]:
    return sorted((set(reading.owners) for reading in world.readable()), key=min)


MODES = pytest.mark.parametrize("mode", ["malicious-server", "semi-honest"])


@MODES
@pytest.mark.parametrize("size", [4, 10, 30])
def test_an_honest_server_reads_the_sum_of_all_and_nothing_else(size: int, mode: str) -> None:
    with attacking(size, mode) as world:
        table = world.seat(ONE, world.honest)
        lead(world, table)
        assert owners(world) == []
        assert all(end(world, table))
        assert owners(world) == [set(range(len(world.honest)))]


@MODES
def test_an_honest_server_reads_the_survivors_sum_alone(mode: str) -> None:
    with attacking(10, mode) as world:
        table = world.seat(ONE, world.honest)
        lead(world, table)
        assert all(end(world, table, gone=keys_of(world.honest[:3])))
        assert owners(world) == [{3, 4, 5, 6}]


class TestWhoIsSeated:
    @MODES
    @pytest.mark.parametrize("size", [10, 30, 100, 256, 1024])
    def test_alone_with_all_colluders_a_device_shares_nothing(self, size: int, mode: str) -> None:
        with attacking(size, mode, honest=3) as world:
            for device in world.honest:
                assert not world.shares(device, world.seat(ONE, [device]))

    @MODES
    @pytest.mark.parametrize(("size", "part"), [(10, 5), (30, 10), (30, 15)])
    def test_no_cohort_is_cut_into_parts(self, size: int, part: int, mode: str) -> None:
        with attacking(size, mode) as world:
            for first in range(0, len(world.honest), part):
                table = world.seat(ONE, world.honest[first : first + part], colluders=0)
                assert not any(world.shares(device, table) for device in world.at(table))

    @MODES
    def test_a_part_with_all_colluders_is_no_cohort_either(self, mode: str) -> None:
        with attacking(10, mode) as world:
            for part in (world.honest[:3], world.honest[3:6]):
                table = world.seat(ONE, part)
                assert not any(world.shares(device, table) for device in part)

    @MODES
    def test_cohorts_of_strangers_may_run_side_by_side(self, mode: str) -> None:
        """Fourteen honest devices make two cohorts of ten, each with the three colluders: that is allowed."""
        with attacking(10, mode, honest=14) as world:
            tables = [world.seat(ONE, world.honest[:7]), world.seat(ONE, world.honest[7:])]
            for table in tables:
                lead(world, table)
            assert all(all(end(world, table)) for table in tables)
            assert owners(world) == [set(range(7)), set(range(7, 14))]

    @MODES
    def test_more_than_planned_are_no_cohort(self, mode: str) -> None:
        with attacking(10, mode, honest=8) as world:
            table = world.seat(ONE, world.honest)
            assert len(table.cards) == 11
            assert not any(world.shares(device, table) for device in world.honest)

    def test_nobody_is_seated_twice(self) -> None:
        """The victim's neighbours are itself, again and again: as many as a cohort needs."""
        with attacking() as world:
            victim = world.honest[0]
            table = world.seat(ONE, [victim])
            mine = next(card for card in table.cards if card.identity == victim.identity.public)
            others = [card for card in table.cards if card != mine]
            for cards in ([mine] * 10, sorted([*others, *[mine] * 7], key=lambda card: card.identity)):
                seating = Table(ONE, table.session, tuple(cards)).seating(cards.index(mine))
                assert code_of(world.tell(victim, ONE, SHARES, cards=seating)) in REFUSED

    def test_one_colluder_is_not_seated_in_many_places(self) -> None:
        with attacking() as world:
            victim = world.honest[0]
            table = world.seat(ONE, [victim])
            cards = sorted([*table.cards, *table.cards[:1] * 6], key=lambda card: card.identity)
            mine = next(card for card in cards if card.identity == victim.identity.public)
            seating = Table(ONE, table.session, tuple(cards)).seating(cards.index(mine))
            assert code_of(world.tell(victim, ONE, SHARES, cards=seating)) in REFUSED


class TestTwoSeatings:
    @MODES
    def test_a_device_shares_once_for_a_card(self, mode: str) -> None:
        with attacking(10, mode, honest=9) as world:
            one, other = world.seat(ONE, world.honest[:7]), world.seat(ONE, world.honest[2:])
            lead(world, one, "shares")
            assert not any(world.shares(device, other) for device in world.honest[2:7])

    @MODES
    def test_a_device_masks_in_one_seating_a_round(self, mode: str) -> None:
        with attacking(10, mode, honest=9) as world:
            lead(world, world.seat(ONE, world.honest[:7]))
            assert not any(world.keys(device, ONE) for device in world.honest[:7])
            for device in world.honest[:7]:
                world.restart(device)
            for device in world.honest[:7]:
                world.keys(device, ONE)
            table = world.seat(ONE, world.honest[2:])
            for device in world.at(table, world.honest[2:7]):
                world.shares(device, table)
                assert not world.train(device, table)

    @MODES
    def test_before_it_masked_it_may_be_asked_for_keys_again(self, mode: str) -> None:
        with attacking(10, mode) as world:
            lead(world, world.seat(ONE, world.honest), "shares")
            assert all([world.keys(device, ONE) for device in world.honest])
            table = world.seat(ONE, world.honest)
            lead(world, table)
            assert all(end(world, table))
            assert owners(world) == [set(range(7))]

    @MODES
    def test_a_stale_card_makes_masks_that_do_not_cancel(self, mode: str) -> None:
        """Half of the devices are shown the victim's old card, which it no longer holds the keys of."""
        with attacking(10, mode) as world:
            victim, others = world.honest[0], world.honest[1:]
            old = world.seat(ONE, world.honest)
            assert world.shares(victim, old)
            world.keys(victim, ONE)
            new = world.seat(ONE, world.honest)
            assert not world.shares(victim, old)
            assert world.shares(victim, new)
            for device in others:
                table = old if device.place % 2 else new
                assert world.shares(device, table)
                world.train(device, table)
            world.train(victim, new)
            end(world, new)


class TestTwoLists:
    def test_of_survivors_open_once_where_survivors_sign(self) -> None:
        with attacking() as world:
            table = world.seat(ONE, world.honest)
            lead(world, table)
            lists = [keys_of(world.honest[:2]), keys_of(world.honest[5:])]
            for device in world.honest:
                for gone in lists if device.place % 2 else lists[::-1]:
                    world.consent(device, ONE, gone)
            for device in world.honest:
                for gone in lists:
                    world.unmask(device, ONE, gone)
            assert len(owners(world)) <= 1

    @pytest.mark.parametrize(("size", "least"), [(10, 2), (7, 2), (5, 3)])
    def test_of_survivors_open_what_the_docs_say_unsigned(self, size: int, least: int) -> None:
        """The bound is met: the server has all but a few taken for dropouts, each by as many as need be."""
        with attacking(size, "semi-honest") as world:
            plan = world.plans[0]
            assert least_honest(plan, terms_of(), size) == least
            table = world.seat(ONE, world.honest)
            sitting = lead(world, table)
            dealt = deal_dropouts(sitting, sitting[least:], size - least_sum(plan, terms_of()))
            assert all(world.end(ONE, {place: keys_of(gone) for place, gone in dealt.items()}))
            assert min(owners(world), key=len) == set(range(least))

    @MODES
    def test_of_members_open_no_less(self, mode: str) -> None:
        """The victim is told of few members. Of these, all others are then told that they dropped out."""
        with attacking(10, mode) as world:
            victim, company, rest = world.honest[0], world.honest[1:4], world.honest[4:]
            table = world.seat(ONE, world.honest)
            lead(world, table, "shares")
            assert world.train(victim, table, keys_of(rest))
            assert all([world.train(device, table) for device in (*company, *rest)])
            gone = keys_of(company)
            world.end(ONE, {device.place: gone - {device.identity.public} for device in (*company, *rest)})
            assert {0} not in owners(world)

    @MODES
    @pytest.mark.parametrize("size", [10, 30])
    def test_that_leave_the_victim_with_colluders_alone_open_nothing(self, size: int, mode: str) -> None:
        with attacking(size, mode) as world:
            table = world.seat(ONE, world.honest)
            sitting = lead(world, table)
            for device in sitting:
                gone = keys_of(sitting) - {device.identity.public}
                assert not world.consent(device, ONE, gone)
                assert not world.unmask(device, ONE, gone)

    @MODES
    def test_that_say_that_all_others_dropped_out_open_nothing(self, mode: str) -> None:
        with attacking(10, mode) as world:
            table = world.seat(ONE, world.honest)
            for device in lead(world, table):
                everyone = at_places(table, range(10))
                assert not world.unmask(device, ONE, everyone - {device.identity.public})

    @MODES
    def test_of_members_that_isolate_the_victim_mask_nothing(self, mode: str) -> None:
        """They leave it with colluders alone."""
        with attacking(10, mode) as world:
            table = world.seat(ONE, world.honest)
            for device in lead(world, table, "shares"):
                assert not world.train(device, table, keys_of(world.honest) - {device.identity.public})


class TestSignatures:
    def test_of_another_round_count_for_nothing(self) -> None:
        with attacking() as world:
            tables = {round: world.seat(round, world.honest) for round in (ONE, TWO)}
            old = {}
            for round, table in tables.items():
                lead(world, table)
                sent = world.masked(world.honest[0], round)
                assert sent
                if round == ONE:
                    assert all(end(world, table))
                    old = world.signatures(sent, to_bits(range(10), 10), set(range(10)))
            victim = world.honest[0]
            assert world.consent(victim, TWO)
            reply = world.tell(victim, TWO, UNMASK, survivors=to_bits(range(10), 10), signatures=pack_consents(old))
            assert code_of(reply) in REFUSED

    def test_of_colluders_that_are_no_survivors_count_for_nothing(self) -> None:
        """Four honest survivors sign, and three colluders that are not on the list: seven signatures, four count."""
        with attacking() as world:
            table = world.seat(ONE, world.honest)
            lead(world, table)
            gone = {identity.public for identity in world.colluders}
            for device in world.honest:
                world.consent(device, ONE, gone)
            for device in world.honest[:4]:
                sent = world.masked(device, ONE)
                assert sent
                bits = to_bits(sent.without(gone), 10)
                places = {table.cards[p].identity: p for p in range(10)}
                signed = world.signatures(sent, bits, set(sent.without(gone)))
                chosen = dict(list(signed.items())[:4])
                chosen |= {places[i.public]: consent(i, sent.context, bits) for i in world.colluders}
                reply = world.tell(device, ONE, UNMASK, survivors=bits, signatures=pack_consents(chosen))
                assert code_of(reply) in REFUSED

    def test_of_colluders_alone_open_nothing(self) -> None:
        with attacking() as world:
            table = world.seat(ONE, world.honest)
            for device in lead(world, table):
                assert world.consent(device, ONE)
                assert not world.unmask(device, ONE)
                break


class TestASecondTime:
    @MODES
    def test_a_device_that_lost_its_memory_opens_nothing(self, mode: str) -> None:
        with attacking(10, mode) as world:
            table = world.seat(ONE, world.honest)
            sitting = lead(world, table)
            for device in sitting:
                world.restart(device)
                assert not world.consent(device, ONE)
                assert not world.unmask(device, ONE)

    @MODES
    def test_memory_that_is_put_back_opens_no_second_list(self, mode: str) -> None:
        with attacking(10, mode) as world:
            table = world.seat(ONE, world.honest)
            sitting = lead(world, table)
            memory = {device.place: world.snapshot(device) for device in sitting}
            assert all(end(world, table))
            for gone in (set(), keys_of(sitting[:3]), keys_of(sitting[4:])):
                for device in sitting:
                    world.put_back(device, memory[device.place])
                opened = world.end(ONE, dict.fromkeys(range(len(sitting)), gone))
                assert all(opened) if not gone else not any(opened)  # the first list gets the same bytes again

    @MODES
    def test_memory_that_is_put_back_masks_no_second_vector(self, mode: str) -> None:
        with attacking(10, mode) as world:
            table = world.seat(ONE, world.honest)
            sitting = lead(world, table, "shares")
            memory = {device.place: world.snapshot(device) for device in sitting}
            for device in sitting:
                assert world.train(device, table)
                world.put_back(device, memory[device.place])
                assert not world.train(device, table, keys_of(sitting[4:]) - {device.identity.public})

    @MODES
    def test_a_message_is_answered_once(self, mode: str) -> None:
        with attacking(10, mode) as world:
            table = world.seat(ONE, world.honest)
            lead(world, table)
            assert all(end(world, table))
            for message in range(len(world.asked)):
                place, round, kind, sections = world.asked[message]
                if kind in (TRAIN, CONSENT):
                    assert code_of(world.tell(world.honest[place], round, kind, **sections)) is not Code.OK


class TestAnotherRunOrPlan:
    @MODES
    def test_cards_of_another_run_seat_nobody(self, mode: str) -> None:
        with attacking(10, mode) as world:
            old = world.seat((0, 1, 1), world.honest)
            victim = world.honest[0]
            mine = world.keys(victim, (0, 2, 1))
            assert mine
            cards = [mine, *(card for card in old.cards if card.identity != mine.identity)]
            table = Table((0, 2, 1), world.session((0, 2, 1)), tuple(sorted(cards, key=lambda card: card.identity)))
            reply = world.tell(victim, table.round, SHARES, cards=table.seating(table.place(mine)))
            assert code_of(reply) is Code.ROSTER

    @MODES
    def test_boxes_of_another_run_open_nothing(self, mode: str) -> None:
        """The same devices in two runs: their boxes of the first are brought to the second."""
        with attacking(10, mode) as world:
            first, second = (world.seat((0, run, 1), world.honest) for run in (1, 2))
            for table in (first, second):
                lead(world, table, "shares")
            victim = world.honest[0]
            card = next(card for card in first.cards if card.identity == victim.identity.public)
            boxes = [world.sealed(other, card, first) for other in first.cards if other != card]
            invitation = to_bits(range(10), 10) + b"".join(made.boxes[card] for made in boxes if made)
            world.tell(victim, (0, 2, 1), TRAIN, cohort=invitation)
            for device in world.honest[1:]:
                world.train(device, second)
            end(world, second)
            assert not [read for read in owners(world) if 0 in read]

    @MODES
    def test_a_second_plan_is_refused_within_a_run(self, mode: str) -> None:
        with attacking(10, mode, plans=2) as world:
            lead(world, world.seat((0, 1, 1), world.honest))
            assert not any(world.keys(device, (1, 1, 1)) for device in world.honest)
            assert not any(world.keys(device, (1, 1, 2)) for device in world.honest)

    @MODES
    def test_a_round_in_another_run_opens_for_itself(self, mode: str) -> None:
        with attacking(10, mode) as world:
            for run in (1, 2):
                table = world.seat((0, run, 1), world.honest)
                lead(world, table)
                assert all(end(world, table))
            assert owners(world) == [set(range(7)), set(range(7))]
