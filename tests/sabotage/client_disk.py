"""Break what a device remembers on its disk."""

from __future__ import annotations

import secrets
from typing import Any

from .registry import turns_red


@turns_red("client/test_refusals_are_final.py::test_a_second_plan_in_one_run_is_refused_after_a_restart")
def forget_which_plan_a_run_has() -> None:
    from bract.client.disk.step_journal import Journal

    Journal.enter = lambda self, run, plan, terms: None


@turns_red("client/test_refusals_are_final.py::test_a_refused_run_stays_refused_after_a_restart")
def forget_a_refusal() -> None:
    from bract.client.disk.step_journal import Journal

    Journal.refuse = lambda self, run: None


@turns_red("client/test_refusals_are_final.py::test_plans_that_are_accepted_do_not_measure_what_was_spent")
def let_plans_in_without_end() -> None:
    import bract.client.disk.step_journal as step_journal

    step_journal._check_day = lambda *rest: None


@turns_red("client/test_refusals_are_final.py::test_a_message_of_a_round_never_begun_tells_no_terms")
def look_at_the_terms_for_a_message_of_a_round_that_never_began() -> None:
    from bract.client.disk.step_journal import Journal

    Journal.entered = lambda self, run, plan: True


@turns_red("client/disk/test_step_journal.py::TestAJournalThatIsNotWhole::test_of_version_0_4_is_refused_by_name")
def take_an_old_journal_for_an_empty_one() -> None:
    import bract.client.disk.step_journal as step_journal

    step_journal.OLD_FILE = "nothing"


@turns_red("client/secure_round/test_journal_rounds.py::test_an_old_memory_shares_no_secrets_of_a_replaced_card")
def share_the_secrets_of_a_card_that_was_replaced() -> None:
    from bract.client.disk.step_journal import Journal

    Journal.shows = lambda self, session, card: True


@turns_red(
    "client/secure_round/test_replays.py::TestADeviceStartedAnew::test_does_not_train_again_though_led_there_again"
)
def do_a_step_again() -> None:
    from bract.client.disk.step_journal import MemoryJournal

    MemoryJournal.first = lambda self, steps: None


@turns_red("client/secure_round/test_replays.py::TestADeviceStartedAnew::test_repeats_its_answer_and_gives_no_other")
def answer_a_second_list() -> None:
    from bract.client.disk.step_journal import Journal

    Journal.answer = lambda self, step, request: None


@turns_red("client/secure_round/test_boxes.py::test_the_same_boxes_get_the_same_answer_and_others_none")
def acknowledge_other_boxes_of_one_card() -> None:
    from bract.client.disk.step_journal import MemoryJournal

    MemoryJournal.answer = lambda self, step, request: None


@turns_red(
    "client/disk/test_device_ledger.py::TestARoundThatWasTakenPartIn::"
    "test_is_counted_against_the_plan_whatever_the_server_says"
)
def count_a_devices_rounds_by_run() -> None:
    import bract.client.disk.device_ledger as device_ledger

    new = device_ledger._new

    class OfTheRun:
        def __init__(self, ledger: Any, run: Any) -> None:
            self.entries = [entry for entry in ledger.entries if entry.origin and entry.origin.run == str(run)]

    device_ledger._new = lambda ledger, plan, run, round: new(OfTheRun(ledger, run), plan, run, round)


@turns_red(
    "client/disk/test_device_ledger.py::TestARoundThatWasTakenPartIn::"
    "test_is_refused_by_a_process_that_knows_nothing_of_it"
)
def let_a_repeated_round_in() -> None:
    import bract.client.disk.device_ledger as device_ledger

    def fresh(ledger: Any, plan: Any, run: Any, round: int) -> Any:
        event = device_ledger.charged_event(plan)
        name, origin = str(len(ledger.entries)), device_ledger.Origin(plan.digest, str(run))
        return device_ledger.Entry(round, name, (device_ledger.DEVICE,), event, event, origin)

    device_ledger._new = fresh


@turns_red("client/test_charge.py::test_a_device_charges_the_noise_of_the_fewest_survivors")
def charge_as_if_nobody_dropped_out() -> None:
    import bract.client.disk.device_ledger as device_ledger

    device_ledger.charged_event = lambda plan: device_ledger.mechanism_of(plan).event("server", plan.cohort.size)


@turns_red("client/disk/test_pseudonym.py::test_a_folder_has_one_name_a_plan_after_every_restart")
def show_another_pseudonym_at_each_asking() -> None:
    from bract.client.disk.pseudonym import Pseudonym

    Pseudonym.of = lambda self, digest: secrets.token_hex(32)


@turns_red("client/disk/test_pseudonym.py::test_names_under_two_plans_and_of_two_folders_are_unlike")
def show_one_pseudonym_under_all_plans() -> None:
    from bract.client.disk.pseudonym import Pseudonym

    of = Pseudonym.of
    Pseudonym.of = lambda self, digest: of(self, 64 * "0")
