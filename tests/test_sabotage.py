"""Break a guarantee, and see the test that is named for it go red: a test that cannot fail guards nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GUARANTEES = Path(__file__).with_name("test_guarantees.py")

SABOTAGE = {
    "skip the clip": (
        "test_one_record_moves_what_a_device_sends_by_at_most_the_sensitivity",
        "import bract.client.train as t, bract.client.gradients as g\n"
        "t.OpacusEngine = lambda model, clip_norm: g.OpacusEngine(model, 1e12)",
    ),
    "clip at twice the norm": (
        "test_one_record_moves_what_a_device_sends_by_at_most_the_sensitivity",
        "import bract.client.train as t, bract.client.gradients as g\n"
        "t.OpacusEngine = lambda model, clip_norm: g.OpacusEngine(model, 2 * clip_norm)",
    ),
    "let one bad record spoil the sum": (
        "test_one_record_moves_what_a_device_sends_by_at_most_the_sensitivity",
        "import bract.client.gradients as g\ndel g.RecordClipper.clip_and_accumulate",
    ),
    "halve the server's noise": (
        "test_what_the_server_releases_carries_the_planned_noise",
        "import bract.server.release as r\nfull = r.gaussian\nr.gaussian = lambda std, n, k: full(std / 2, n, k)",
    ),
    "halve the device's noise": (
        "test_what_a_device_steps_on_carries_the_planned_noise",
        "import bract.client.protect as p\nfull = p.gaussian\np.gaussian = lambda std, n, k: full(std / 2, n, k)",
    ),
    "let the number of rows vary": (
        "test_no_parameters_make_a_record_move_the_shares_of_the_records_beside_it",
        "import torch, types, bract.client.gradients as g\n"
        "varying = lambda parts: torch.cat(parts[:1] if len(parts) == 2 else parts)\n"
        "g.torch = types.SimpleNamespace(**{**vars(torch), 'cat': varying})",
    ),
    "let a fault out of the device": (
        "test_a_device_answers_with_an_update_or_a_code_and_nothing_else",
        "import bract.client.app as a\n"
        "a._answer = lambda message, context, opened, answer: "
        "a._reply(a.Code.OK, *answer(a._visit(message, context, opened)))",
    ),
    "send a figure beside the update": (
        "test_a_device_answers_with_an_update_or_a_code_and_nothing_else",
        "import bract.client.app as a\nreply = a._reply\n"
        "def talkative(code, update=None, sections=None):\n"
        "    records = reply(code, update, sections)\n"
        "    records['metrics'] = a.ConfigRecord({'records': 600})\n"
        "    return records\n"
        "a._reply = talkative",
    ),
    "let updates out in the clear unasked": (
        "test_without_a_word_from_the_owner_no_update_leaves_without_masks",
        "from bract.client.terms import Terms\nTerms.check = lambda self, plan: None",
    ),
    "leave the masks off": (
        "test_masks_cover_every_word_and_come_off_again",
        "import bract.client.protect as p\np.add_masks = lambda words, masks: None",
    ),
    "use one mask in two rounds": (
        "test_another_context_or_session_gives_other_masks_throughout",
        "import bract.privacy.secagg.masking as m\nfull = m.own_key\n"
        "m.own_key = lambda secret, identity, context: full(secret, identity, bytes(32))",
    ),
    "let the sum overflow": (
        "test_the_sum_is_exact_whatever_the_ring",
        "from bract.privacy import Ring\nfull = Ring.bound\n"
        "Ring.bound = lambda self, devices: 2 * full(self, devices)",
    ),
    "leave the grid out of the sensitivity": (
        "test_the_allowance_for_rounding_in_the_sensitivity_is_needed_and_nearly_used",
        "from bract.privacy import Plan\nPlan.sensitivity = lambda self, dimension: self.privacy.clip_norm",
    ),
    "let any stranger share keys": (
        "TestAnAuthority::test_does_not_admit_whom_another_certified",
        "import bract.client.secagg as c\nc.genuine = lambda card, session, roster: True",
    ),
    "open a sum of too few": (
        "TestFewerThanTheLeast::test_survivors_open_nothing",
        "import bract.client.secagg as c\nc.SecureRound._check_count = lambda self, view, count: None",
    ),
    "open without signatures": (
        "TestSignatures::test_by_too_few_open_nothing",
        "import bract.client.secagg as c\nc.SecureRound._check_signatures = lambda self, *a: None",
    ),
    "count colluders of those who are seated alone": (
        "test_the_colluders_of_the_planned_cohort_can_all_be_in_a_smaller_one",
        "import bract.privacy.secagg.session as s\nchosen = s.choose_graph\n"
        "s.choose_graph = lambda devices, bad, gone: chosen(devices, bad * devices // 9, gone)",
    ),
    "do a step again": (
        "TestADeviceStartedAnew::test_does_nothing_that_it_did_before_though_a_server_leads_it_there_again",
        "from bract.client.journal import MemoryJournal\nMemoryJournal.first = lambda self, steps: None",
    ),
    "keep the secrets of a round": (
        "test_devices_remember_nothing_of_rounds_that_are_over",
        "import bract.client.secagg as c\nc.SecureRound.leave = lambda self: None",
    ),
    "ask for shares before the charge": (
        "TestTheCharge::test_is_made_before_the_first_message_leaves_that_asks_for_shares",
        "import dataclasses, bract.server.secagg as s\n"
        "collect = s.SecureSum.collect\n"
        "def late(self, call, cohort):\n"
        "    due = []\n"
        "    collected = collect(self, dataclasses.replace(call, charge=due.append), cohort)\n"
        "    call.charge(*due)\n"
        "    return collected\n"
        "s.SecureSum.collect = late",
    ),
    "do not charge the ledger": (
        "test_nothing_is_released_before_its_charge_is_on_disk",
        "from bract.privacy import Ledger\nLedger.spend = lambda self, entry: None",
    ),
    "charge after the release": (
        "test_nothing_is_released_before_its_charge_is_on_disk",
        "from bract.privacy import Ledger\nspend, late = Ledger.spend, []\n"
        "def spend_late(self, entry):\n"
        "    if late: spend(self, late.pop())\n"
        "    late.append(entry)\n"
        "Ledger.spend = spend_late",
    ),
    "use one poisson sample again": (
        "test_every_step_takes_a_fresh_poisson_sample",
        "from bract.simulations.seeded import SeededEntropy\nfresh = SeededEntropy.keystream\n"
        "SeededEntropy.keystream = lambda self, *p: fresh(self, *(p[:2] if 'sample' in p else p))",
    ),
    "sample more than the plan says": (
        "test_every_step_takes_a_fresh_poisson_sample",
        "from bract.privacy import Keystream\nplanned = Keystream.sample\n"
        "Keystream.sample = lambda self, rate, n: planned(self, min(1, 1.5 * rate), n)",
    ),
}


ELSEWHERE = {
    "test_no_parameters_make_a_record_move_the_shares_of_the_records_beside_it": "client/test_gradients.py",
    "test_without_a_word_from_the_owner_no_update_leaves_without_masks": "client/test_terms.py",
    "test_masks_cover_every_word_and_come_off_again": "client/test_protect.py",
    "test_another_context_or_session_gives_other_masks_throughout": "privacy/secagg/test_masking.py",
    "TestAnAuthority::test_does_not_admit_whom_another_certified": "client/secagg/test_cards.py",
    "TestFewerThanTheLeast::test_survivors_open_nothing": "client/secagg/test_counts.py",
    "TestSignatures::test_by_too_few_open_nothing": "client/secagg/test_two_lists.py",
    "test_the_colluders_of_the_planned_cohort_can_all_be_in_a_smaller_one": "privacy/secagg/test_session.py",
    "TestADeviceStartedAnew::test_does_nothing_that_it_did_before_though_a_server_leads_it_there_again": (
        "client/secagg/test_replays.py"
    ),
    "test_devices_remember_nothing_of_rounds_that_are_over": "simulations/test_run_secagg.py",
    "TestTheCharge::test_is_made_before_the_first_message_leaves_that_asks_for_shares": (
        "server/secagg/test_dropouts.py"
    ),
    "test_the_sum_is_exact_whatever_the_ring": "server/test_plain_sum.py",
    "test_the_allowance_for_rounding_in_the_sensitivity_is_needed_and_nearly_used": "privacy/test_quantize.py",
}
"""Where a named test stands if not in `test_guarantees.py`."""


def run(test: str, damage: str) -> str:
    code = f"{damage}\nimport pytest, sys\nsys.exit(pytest.main(['-x', '-p', 'no:cacheprovider', {test!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=GUARANTEES.parent.parent)
    return done.stdout


@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotage_is_caught(name: str) -> None:
    test, damage = SABOTAGE[name]
    place = ELSEWHERE.get(test, GUARANTEES.name)
    assert f"FAILED tests/{place}::{test}" in run(f"{GUARANTEES.parent / place}::{test}", damage)


def test_without_sabotage_the_guarantees_hold() -> None:
    output = run(str(GUARANTEES), "")
    assert " passed" in output
    assert "FAILED" not in output
