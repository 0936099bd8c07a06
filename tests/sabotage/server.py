"""Break what a server does with rounds, cohorts and the devices that answer."""

from __future__ import annotations

import dataclasses
from typing import Any

from .registry import turns_red

TOOK_PART = (
    "server/test_retries.py::TestARoundThatSomeTookPartIn::test_is_lost_and_charged_and_the_next_takes_its_place"
)


@turns_red("server/secure/test_noise_floor.py::test_one_dropout_too_many_opens_nothing")
def sum_fewer_than_the_noise_needs() -> None:
    from bract.server.aggregation.secure import SecureSum

    SecureSum._require = lambda *rest: None


@turns_red("server/aggregation/test_accusations.py::test_more_namers_than_colluders_leave_a_device_out")
def leave_out_whom_a_single_device_names() -> None:
    from bract.server.aggregation.accusations import Accusations

    Accusations.left_out = lambda self, identity: identity in self._accusers


@turns_red(
    "server/secure/test_acknowledged.py::"
    "test_one_who_seals_garbage_for_c_others_loses_one_round[names nobody-semi-honest]"
)
def train_before_devices_acknowledge_their_boxes() -> None:
    from bract.server.aggregation.accusations import Accusations

    Accusations.disputed = False


@turns_red("server/secure/test_acknowledged.py::test_c_who_name_one_do_not_evict_it_for_ever")
def let_a_few_have_a_device_sit_out_for_ever() -> None:
    import bract.server.aggregation.accusations as accusations

    opponents = accusations._opponents
    accusations._opponents = lambda rivals, order: opponents(rivals, lambda place, count, theirs: (count,))


@turns_red("server/secure/test_acknowledged.py::test_whoever_names_boxes_that_it_acknowledged_is_left_out")
def let_a_device_dispute_boxes_that_it_acknowledged() -> None:
    from bract.server.aggregation.accusations import Accusations

    Accusations.note_liar = lambda self, identity: None


@turns_red("server/secure/test_acknowledged.py::test_an_unusable_answer_costs_its_sender_the_round[failed]")
def train_those_who_did_not_acknowledge_their_boxes() -> None:
    from bract.server.aggregation.secure import SecureSum

    acknowledge = SecureSum._acknowledge

    def all_the_same(self: Any, call: Any, table: Any) -> None:
        boxes = dict(table.cohort.boxes)
        acknowledge(self, call, table)
        table.cohort.boxes.update(boxes)

    SecureSum._acknowledge = all_the_same


@turns_red("server/test_directory.py::test_an_identity_that_is_not_signed_for_keeps_nobody_out")
def go_by_a_name_that_its_owner_did_not_sign_for() -> None:
    import bract.server.directory as directory

    directory.introduces = lambda *rest: True


@turns_red("server/secure/test_hostile.py::test_a_node_is_seated_by_the_card_it_is_counted_by_alone")
def seat_a_node_by_the_card_of_another() -> None:
    from bract.server.aggregation.secure import SecureSum

    SecureSum._is_counted = lambda self, node, card: True


@turns_red("server/secure/test_dropouts.py::TestTheCharge::test_is_made_before_any_message_that_asks_for_shares")
def ask_for_shares_before_the_charge() -> None:
    from bract.server.aggregation.secure import SecureSum

    collect = SecureSum.collect

    def late(self: Any, call: Any, cohort: Any) -> Any:
        due: list[Any] = []
        collected = collect(self, dataclasses.replace(call, charge=due.append), cohort)
        call.charge(*due)
        return collected

    SecureSum.collect = late


@turns_red(TOOK_PART)
def try_a_round_again_that_devices_took_part_in() -> None:
    from bract.server.answers import RoundFailed

    RoundFailed.lost = property(lambda self: self.paid)


@turns_red(TOOK_PART)
def charge_nothing_for_a_lost_round() -> None:
    import bract.server.rounds as rounds

    lose_round = rounds._lose_round

    def free(training: Any, ledger: Any, state: Any, fault: Any) -> Any:
        fault.paid = True
        return lose_round(training, ledger, state, fault)

    rounds._lose_round = free


@turns_red("test_restarts.py::test_after_a_crash_the_server_counts_no_device_too_rarely[amid answers-local-True]")
def forget_a_round_that_a_crash_cut_off() -> None:
    import bract.server.rounds as rounds

    rounds.record_start = lambda *rest: None


@turns_red("server/test_correlated_crash.py::test_after_an_unknown_release_noise_starts_afresh")
def carry_noise_over_a_crash() -> None:
    import bract.server.rounds as rounds

    rounds._with_sound_noise = lambda training, ledger, state: state


@turns_red("server/test_correlated_noise.py::test_cohorts_are_full_and_clients_rest_between_bands")
def let_a_client_back_too_early() -> None:
    import bract.server.cohort as cohort

    cohort.check_separation = lambda *rest: None
    cohort.Participations.too_recent = lambda self, plan, round: frozenset()


@turns_red("server/test_correlated_noise.py::test_a_client_that_is_back_too_early_ends_the_round")
def charge_whoever_is_back_too_early() -> None:
    import bract.server.cohort as cohort

    cohort.check_separation = lambda *rest: None


@turns_red("server/test_rounds_charge.py::test_a_client_over_its_planned_rounds_ends_the_round")
def charge_a_client_that_took_part_as_often_as_planned() -> None:
    from bract.server.cohort import Participations

    Participations.check = lambda self, *rest: None
