"""Break a guarantee, and see the test that is named for it go red: a test that cannot fail guards nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

SABOTAGE = {
    "accept a plan without its checks": (
        "test_guarantees.py::test_nobody_takes_a_plan_that_costs_more_than_its_budget",
        "import bract.privacy.accept as a\na.CHECKS = ()",
    ),
    "look a network up that the terms do not list": (
        "client/test_own_network.py::test_a_network_that_the_terms_do_not_list_is_not_imported",
        "from bract.client.terms import Terms\nTerms.check_network = lambda self, name: None",
    ),
    "call whatever a name finds": (
        "models/test_own.py::test_what_is_no_network_is_refused_and_not_called",
        "import bract.models.own as o\no._arguments = lambda function: o.ARGUMENTS",
    ),
    "import a module of Python for a network": (
        "models/test_own.py::test_a_name_of_another_form_or_of_python_runs_nothing",
        "import sys\nsys.stdlib_module_names = frozenset()",
    ),
    "skip the clip": (
        "test_guarantees.py::test_one_record_moves_a_sum_by_at_most_the_sensitivity",
        "import bract.client.train as t\nmade = t.make_engine\n"
        "t.make_engine = lambda model, clip_norm, *rest: made(model, 1e12, *rest)",
    ),
    "clip at twice the norm": (
        "test_guarantees.py::test_one_record_moves_a_sum_by_at_most_the_sensitivity",
        "import bract.client.train as t\nmade = t.make_engine\n"
        "t.make_engine = lambda model, clip_norm, *rest: made(model, 2 * clip_norm, *rest)",
    ),
    "let one bad record spoil the sum": (
        "test_guarantees.py::test_one_record_moves_a_sum_by_at_most_the_sensitivity",
        "import bract.client.clipping.layers.instantiated as i, bract.client.clipping.layers.outer_product as o\n"
        "i.zero_unweighted = o.zero_unweighted = lambda rows, factors: rows",
    ),
    "let one bad record spoil Opacus' sum": (
        "test_guarantees.py::test_one_record_moves_a_sum_by_at_most_the_sensitivity",
        "import bract.client.clipping.opacus as g\ndel g.RecordClipper.clip_and_accumulate",
    ),
    "take the terms of a gradient for less than they are": (
        "client/clipping/test_hostile.py::test_terms_that_cancel_move_a_sum_by_the_clip_norm_at_most",
        "import bract.client.clipping.clip as c\nc.CANCELLATION = float('inf')",
    ),
    "halve the server's noise": (
        "test_guarantees.py::test_what_the_server_releases_carries_the_planned_noise",
        "import bract.privacy.mechanisms.central as c\nfull = c.gaussian\n"
        "c.gaussian = lambda std, n, k: full(std / 2, n, k)",
    ),
    "halve the device's noise": (
        "test_guarantees.py::test_what_a_device_steps_on_carries_the_planned_noise",
        "import bract.privacy.mechanisms.local as m\nfull = m.gaussian\n"
        "m.gaussian = lambda std, n, k: full(std / 2, n, k)",
    ),
    "add the noise of the first local step to all": (
        "client/test_train.py::test_local_steps_carry_the_noise_of_each_of_their_steps",
        "from bract.privacy.mechanisms.local import Local\nfull = Local.noise\n"
        "Local.noise = lambda self, count, steps, draw: iter([next(full(self, count, steps, draw))] * steps)",
    ),
    "take rows that the machine does not treat alike": (
        "client/clipping/test_determinism.py::test_rows_are_raised_to_what_matrix_products_treat_alike",
        "import bract.client.clipping.engine as e\ne.batch_invariant_rows = lambda rows: rows",
    ),
    "halve the shares of the noise": (
        "test_shared_noise.py::test_the_fewest_honest_devices_bring_the_planned_noise",
        "import bract.privacy.mechanisms.distributed as d\nfull = d.skellam\n"
        "d.skellam = lambda v, n, k: full(v / 2, n, k)",
    ),
    "leave the share of the noise out": (
        "test_shared_noise.py::test_the_fewest_honest_devices_bring_the_planned_noise",
        "import bract.privacy.mechanisms.distributed as d, numpy as np\n"
        "d.skellam = lambda v, n, k: np.zeros(n, dtype=np.int64)",
    ),
    "size the noise for all devices": (
        "test_shared_noise.py::test_the_fewest_honest_devices_bring_the_planned_noise",
        "from bract.privacy.mechanisms.distributed import Distributed as D\nD.steps_of_dropouts = (0,)",
    ),
    "size the noise as if nobody colluded": (
        "test_shared_noise.py::test_the_fewest_honest_devices_bring_the_planned_noise",
        "from bract.privacy.mechanisms.distributed import Distributed as D\n"
        "D.honest = lambda self, survivors: survivors",
    ),
    "let a sum wrap before its noise is in it": (
        "test_bound_to_the_round.py::test_a_sum_at_the_edge_of_the_ring_is_as_what_it_wraps_to",
        "import bract.privacy.mechanisms.central as c\n"
        "c.Central.with_noise = lambda self, total, noise: "
        "c.dequantize(total.vector * self.refinement + noise, self.noise_step)",
    ),
    "leave the scale out of what masks are bound to": (
        "test_bound_to_the_round.py::test_masks_are_bound_to_the_scale_of_the_clip_norm",
        "import bract.privacy.messages as m\nfull = m.model_digest\nm.model_digest = lambda p, scale: full(p, 1.0)",
    ),
    "forget the colluders in the charge": (
        "test_shared_noise.py::test_what_is_charged_is_the_noise_that_arrived",
        "from bract.privacy.mechanisms.distributed import Distributed as D\nfull = D.arrived\n"
        "D.arrived = lambda self, survivors, devices: full(self, survivors, survivors)",
    ),
    "give up a layer of noise that dropouts made needed": (
        "server/secure/test_noise_floor.py::test_survivors_are_charged_for_the_noise_that_they_brought",
        "from bract.privacy.mechanisms.distributed import Distributed as D\nD.kept = lambda self, survivors: 0",
    ),
    "charge for layers of noise that come off": (
        "privacy/mechanisms/test_distributed_layers.py::test_what_honest_survivors_keep_is_what_is_claimed_and_what_is_charged",
        "from bract.privacy.mechanisms.distributed import Distributed as D\n"
        "D.arrived = lambda self, survivors, devices: devices * self._enough[-1]",
    ),
    "leave the layers out of what a device sends": (
        "client/secure_round/test_layers.py::test_the_layers_are_in_the_vector_that_leaves",
        "import bract.privacy.mechanisms.distributed as m, numpy as np\n"
        "m.layer_noise = lambda variances, seeds, n: np.zeros(n, dtype=np.int64)",
    ),
    "round to the nearest without a sensitivity for it": (
        "test_shared_noise.py::test_a_hair_moves_a_rounded_vector_by_a_hair_on_average",
        "import bract.privacy.mechanisms.distributed as d, numpy as np\n"
        "d.round_randomly = lambda vector, step, k: np.rint(vector / step).astype(np.int64)",
    ),
    "leave random rounding out of the sensitivity": (
        "test_shared_noise.py::test_a_unit_moves_a_rounded_sum_by_what_is_charged",
        "from bract.privacy.mechanisms.distributed import Distributed as D\n"
        "D.sensitivity = lambda self, dimension: self.clip_norm",
    ),
    "leave a client's change as long as it is": (
        "test_guarantees.py::test_one_unit_moves_a_vector_by_the_clip_norm_and_rounding",
        "import bract.client.train as t\nfrom bract.privacy import Clipped\n"
        "t.clip_change = lambda update, plan: Clipped(update.vector)",
    ),
    "take a vector that nobody clipped": (
        "privacy/mechanisms/test_contribution.py::test_a_vector_that_is_not_clipped_is_refused[client-distributed]",
        "import bract.privacy.mechanisms.distributed as d\nd.Clipped = d.Update",
    ),
    "draw the same noise on all devices": (
        "test_guarantees.py::test_no_two_devices_and_no_two_rounds_draw_the_same_noise",
        "from bract.simulations.seeded import SeededEntropy\nfresh = SeededEntropy.keystream\n"
        "SeededEntropy.keystream = lambda self, *p: fresh(self, *(p[2:] if 'device' in p else p))",
    ),
    "charge for the noise of those who dropped out": (
        "server/secure/test_noise_floor.py::test_survivors_are_charged_for_the_noise_that_they_brought",
        "from bract.privacy import Mechanism\nfull = Mechanism.event\n"
        "Mechanism.event = lambda self, view, survivors=None: "
        "full(self, view, survivors and self.plan.cohort.size)",
    ),
    "sum fewer than the noise needs": (
        "server/secure/test_noise_floor.py::test_one_device_more_than_may_drop_out_ends_the_round_with_nothing_opened",
        "import bract.server.aggregation.secure as s\ns.SecureSum._require = lambda *a: None",
    ),
    "open a sum with too little noise": (
        "client/secure_round/test_counts.py::TestFewerThanTheLeast::test_survivors_open_nothing",
        "from bract.privacy import Plan\nPlan.least_survivors = property(lambda self: max(4, self.cohort.minimum))",
    ),
    "let the number of rows vary": (
        "client/clipping/test_opacus.py::test_no_record_moves_the_gradients_of_those_beside_it",
        "from bract.client.clipping.book_keeping import BookKeepingEngine as E\nfull = E._pass\n"
        "def varying(self, chunk):\n"
        "    rows, self._rows = self._rows, max(1, len(chunk))\n"
        "    parts, self._rows = full(self, chunk), rows\n"
        "    return parts\n"
        "E._pass = varying",
    ),
    "let the number of Opacus' rows vary": (
        "client/clipping/test_opacus.py::test_no_record_moves_the_gradients_of_those_beside_it",
        "from bract.client.clipping.opacus import OpacusEngine as E\nfull = E._pass\n"
        "def varying(self, chunk):\n"
        "    rows, self._rows = self._rows, max(1, len(chunk))\n"
        "    part, self._rows = full(self, chunk), rows\n"
        "    return part\n"
        "E._pass = varying",
    ),
    "leave records outside the plan out before they are sampled": (
        "client/test_oracle.py::TestOneRecordMore::"
        "test_makes_as_many_passes_whatever_the_labels_of_a_file_are[record-central]",
        "import bract.client.app as a, numpy as np\nfull = a.fitting\n"
        "def filtered(records, plan):\n"
        "    kept = full(records, plan)\n"
        "    return kept.select(np.ones(len(kept), dtype=bool))\n"
        "a.fitting = filtered",
    ),
    "look at the shape of such records alone as the plan knows": (
        "client/test_oracle.py::TestOneRecordMore::"
        "test_of_another_shape_or_kind_is_refused_by_what_the_file_is_and_not_by_what_is_in_it",
        "import bract.client.app as a, bract.client.records as r\nfull = r.check_kind\n"
        "a.check_kind = r.check_kind = lambda records, plan: full(records, plan) "
        "if bool((records.labels < plan.data.classes).any()) else None",
    ),
    "try no network before the records are read": (
        "client/test_oracle.py::TestOneRecordMore::test_of_a_network_that_opacus_cannot_train_is_not_looked_at",
        "import bract.client.clipping.opacus as g, bract.client.clipping.engine as e\n"
        "e.check_layers_for_opacus = lambda model: None\ng.OpacusEngine.rehearse = lambda self, example: None",
    ),
    "pass only if something was sampled": (
        "client/test_oracle.py::TestOneRecordMore::"
        "test_makes_no_pass_more_though_its_sample_fills_a_pass_the_better[record-central]",
        "import bract.client.train as t\nt.passes_of = lambda plan, records, rows: 0",
    ),
    "let a record's fault out of its pass": (
        "client/test_oracle.py::TestARecordWhosePassFails::test_is_seen_in_the_owners_log_alone",
        "import bract.client.clipping.book_keeping as e, bract.client.clipping.opacus as g\n"
        "e.without_failures = g.without_failures = lambda chunks, one_pass, report: map(one_pass, chunks)",
    ),
    "make the whole sum zero for one record's fault": (
        "client/test_oracle.py::TestARecordWhosePassFails::test_takes_only_its_own_part_from_a_sum",
        "import bract.client.clipping.failed_passes as f\nf._one_by_one = lambda chunk, one_pass, report: iter(())",
    ),
    "divide by how many were sampled": (
        "client/test_train.py::test_the_divisor_is_the_public_batch_size_and_not_the_size_of_the_sample",
        "import bract.client.train as t\nfrom bract.privacy import Clipped\nfull = t.sampled_sum\n"
        "def mean(task, parameters, step):\n"
        "    rate, count = task.plan.privacy.sampling_rate, len(task.records)\n"
        "    sampled = t.poisson_sample(task.draw('sample', step), rate, count).sum()\n"
        "    scale = task.plan.training.batch_size / max(1, sampled)\n"
        "    return Clipped(full(task, parameters, step).vector * scale)\n"
        "t.sampled_sum = mean",
    ),
    "do not divide a change by the adaptive scale": (
        "client/test_train_cells.py::test_a_change_is_divided_by_the_scale_of_the_clip_norm",
        "import dataclasses, bract.client.train as t\nfull = t.clipped_change\n"
        "t.VECTORS['client'] = t.clipped_change = lambda task: full(dataclasses.replace(task, scale=1.0))",
    ),
    "let a fault out of the device": (
        "test_guarantees.py::test_a_device_answers_with_an_update_or_a_code_alone",
        "import bract.client.app as a\n"
        "a._answer = lambda message, context, opened, answer: "
        "a._reply(a.Code.OK, *answer(a._visit(message, context, opened)))",
    ),
    "send a figure beside the update": (
        "test_guarantees.py::test_a_device_answers_with_an_update_or_a_code_alone",
        "import bract.client.app as a\nreply = a._reply\n"
        "def talkative(code, update=None, sections=None):\n"
        "    records = reply(code, update, sections)\n"
        "    records['metrics'] = a.ConfigRecord({'records': 600})\n"
        "    return records\n"
        "a._reply = talkative",
    ),
    "let updates out in the clear unasked": (
        "client/test_terms.py::test_without_a_word_from_the_owner_no_update_leaves_without_masks",
        "from bract.client.terms import Terms\nTerms.check = lambda self, mechanism: None",
    ),
    "leave the masks off": (
        "client/test_mask.py::test_masks_cover_every_word_and_come_off_again",
        "import bract.client.mask as m\nm.add_masks = lambda words, masks: None",
    ),
    "use one mask in two rounds": (
        "privacy/secagg/test_masking.py::test_another_context_or_session_gives_other_masks_throughout",
        "import bract.privacy.secagg.masking as m\nfull = m.own_key\n"
        "m.own_key = lambda secret, identity, context: full(secret, identity, bytes(32))",
    ),
    "let the sum overflow": (
        "server/aggregation/test_plain.py::test_the_sum_is_exact_whatever_the_ring",
        "from bract.privacy import Ring\nfull = Ring.bound\n"
        "Ring.bound = lambda self, devices: 2 * full(self, devices)",
    ),
    "leave the grid out of the sensitivity": (
        "privacy/encoding/test_quantization.py::test_the_allowance_for_rounding_in_the_sensitivity_is_needed_and_nearly_used",
        "from bract.privacy.mechanisms.central import Central as C\n"
        "from bract.privacy.mechanisms.local import Local as L\n"
        "L.sensitivity = C.sensitivity = lambda self, dimension: self.clip_norm",
    ),
    "let any stranger share keys": (
        "client/secure_round/test_cards.py::TestAnAuthority::test_does_not_admit_whom_another_certified",
        "import bract.client.secure_round as c\nc.genuine = lambda card, session, roster: True",
    ),
    "open a sum of too few": (
        "client/secure_round/test_counts.py::TestFewerThanTheLeast::test_survivors_open_nothing",
        "import bract.client.secure_round as c\nc.SecureRound._check_count = lambda self, count: None",
    ),
    "open shares beside survivors of other members": (
        "secagg_attacks/test_written_attacks.py::TestTwoLists::test_of_members_open_no_less[semi-honest]",
        "import bract.client.secure_round as c\nc.check_context_signatures = lambda *a: None",
    ),
    "open without signatures": (
        "client/secure_round/test_two_lists.py::TestSignatures::test_by_too_few_open_nothing",
        "import bract.client.secure_round as c\nc.SecureRound._check_signatures = lambda self, *a: None",
    ),
    "count colluders of those who are seated alone": (
        "privacy/secagg/test_session.py::test_the_threshold_of_a_smaller_cohort_is_that_of_the_planned_one",
        "import bract.privacy.secagg.session as s\nchosen = s.choose_graph\n"
        "s.choose_graph = lambda planned, bad, gone, seats: chosen(seats, bad * seats // planned, gone)",
    ),
    "count a sum's devices of those who are seated alone": (
        "client/secure_round/test_seatings.py::"
        "test_a_server_that_seats_each_honest_device_alone_with_its_colluders_reads_none[local-semi-honest]",
        "import bract.client.secure_round as c, bract.privacy.secagg.session as s\n"
        "c.SecureRound._check_count = lambda self, count: None\n"
        "s.choose_graph = lambda planned, bad, gone, seats: s.Graph(seats, seats - 1, (seats + 3) // 2 + 1)",
    ),
    "take part although boxes do not open": (
        "server/secure/test_hostile.py::TestSealedBoxes::"
        "test_that_do_not_open_are_paid_for_by_nobody_and_their_sender_is_left_out[0-x25519]",
        "import bract.client.secure_round as c\nfull = c.SecureRound._unseal\n"
        "def deaf(self, view, own, members, boxes):\n"
        "    others = [m for m in members if m != view.position]\n"
        "    try:\n"
        "        return full(self, view, own, members, boxes)\n"
        "    except c.BadBoxes:\n"
        "        nothing = c.SecretShares(bytes(33), bytes(33))\n"
        "        return dict.fromkeys(others, nothing), [c.Peer(view.cards[m]) for m in others]\n"
        "c.SecureRound._unseal = deaf",
    ),
    "leave out whom a single device names": (
        "server/aggregation/test_accusations.py::test_whom_more_than_the_colluders_named_is_left_out_and_nobody_on_fewer",
        "from bract.server.aggregation.accusations import Accusations as S\n"
        "S.left_out = lambda self, identity: identity in self._accusers",
    ),
    "train before devices acknowledge their boxes": (
        "server/secure/test_acknowledged.py::"
        "test_one_who_seals_garbage_for_c_others_loses_one_round[names nobody-semi-honest]",
        "from bract.server.aggregation.accusations import Accusations as S\nS.disputed = False",
    ),
    "let a few have a device sit out for ever": (
        "server/secure/test_acknowledged.py::test_c_who_name_one_do_not_evict_it_for_ever",
        "import bract.server.aggregation.accusations as s\nfull = s._opponents\n"
        "s._opponents = lambda rivals, order: full(rivals, lambda place, count, theirs: (count,))",
    ),
    "acknowledge other boxes of one card": (
        "client/secure_round/test_boxes.py::test_the_same_boxes_get_the_same_answer_and_others_none",
        "from bract.client.disk.step_journal import MemoryJournal as J\nJ.answer = lambda *a: None",
    ),
    "take a wrong share for a right one": (
        "privacy/secagg/test_unmask.py::test_with_two_wrong_openers_of_ten_no_round_is_lost_whoever_they_are[0]",
        "from bract.privacy.secagg.unmask import Opening\nOpening._is_right = lambda *a: True",
    ),
    "draw masks and noise from one stream": (
        "privacy/secagg/test_masks.py::"
        "test_a_key_that_served_masks_and_noise_alike_would_make_two_streams_that_have_nothing_in_common[gcm_stream]",
        "import bract.privacy.secagg.masks as m\nm.PURPOSE = bytes(12)",
    ),
    "mask in two seatings of a round": (
        "client/secure_round/test_seatings.py::test_a_device_masks_in_one_seating_a_round_though_it_forgot_the_first",
        "import bract.client.secure_round as c\nc.SecureRound._not_masked = lambda self: None",
    ),
    "take a share of colluders for a device": (
        "client/test_terms.py::test_a_share_of_colluders_that_is_no_whole_device_satisfies_no_owner_who_wants_one",
        "import math, bract.privacy.plan.thresholds as g\n"
        "g.most_colluders = lambda devices, share: math.ceil(share * devices)",
    ),
    "refuse too few survivors after the charge alone": (
        "client/test_terms.py::"
        "test_a_plan_whose_sums_may_open_over_fewer_than_the_owner_wants_is_refused_at_the_offer",
        "from bract.privacy import Plan\nPlan.least_survivors = property(lambda self: self.cohort.size)",
    ),
    "do a step again": (
        "client/secure_round/test_replays.py::TestADeviceStartedAnew::test_does_not_train_again_though_a_server_leads_it_there_again",
        "from bract.client.disk.step_journal import MemoryJournal\nMemoryJournal.first = lambda self, steps: None",
    ),
    "forget which plan a run has": (
        "client/test_refusals_are_final.py::test_a_second_plan_in_one_run_is_refused_after_a_restart",
        "from bract.client.disk.step_journal import Journal\nJournal.enter = lambda self, run, plan, terms: None",
    ),
    "forget a refusal": (
        "client/test_refusals_are_final.py::test_a_device_that_refused_a_run_refuses_it_whatever_the_plan_then_says_also_after_a_restart",
        "from bract.client.disk.step_journal import Journal\nJournal.refuse = lambda self, run: None",
    ),
    "say whether terms or spending refuse": (
        "client/test_refusals_are_final.py::test_terms_and_what_was_spent_elsewhere_are_refused_with_one_and_the_same_reply",
        "import bract.client.app as a\nfrom bract.privacy import BudgetError\ncode = a._code\n"
        "a._code = lambda fault: a.Code.FAILED if isinstance(fault, BudgetError) else code(fault)",
    ),
    "let plans in without end": (
        "client/test_refusals_are_final.py::test_a_server_cannot_measure_what_was_spent_elsewhere_by_plans_that_are_accepted",
        "import bract.client.disk.step_journal as j\nj._check_day = lambda *a: None",
    ),
    "share the secrets of a card that was replaced": (
        "client/secure_round/test_journal_rounds.py::test_a_device_whose_memory_is_older_than_its_journal_shares_no_secrets_of_a_card_that_it_replaced",
        "from bract.client.disk.step_journal import Journal\nJournal.shows = lambda self, session, card: True",
    ),
    "take an old journal for an empty one": (
        "client/disk/test_step_journal.py::TestAJournalThatIsNotWhole::test_of_version_0_4_is_refused_by_name_and_never_taken_for_empty",
        "import bract.client.disk.step_journal as j\nj.OLD_FILE = 'nothing'",
    ),
    "believe a key that anybody can sign for": (
        "privacy/secagg/test_identity.py::TestAKeyThatAnybodyCanSignFor::test_is_in_no_roster_as_a_device_or_an_authority",
        "import bract.privacy.secagg.identity as i\ni.sound = lambda public: True",
    ),
    "let in rounds that are worth nothing": (
        "client/test_terms.py::test_rounds_that_are_worth_next_to_nothing_are_refused",
        "from bract.client.terms import Terms\nTerms._check_worth = lambda self, mechanism: None",
    ),
    "go by files that others can change": (
        "client/test_app_deployed.py::TestTheDeployedApp::test_answers_nothing_while_others_can_change_what_it_goes_by",
        "import bract.privacy.storage as f, bract.client.device as d\nf.exposed = d.exposed = lambda path: None",
    ),
    "answer a second list": (
        "client/secure_round/test_replays.py::TestADeviceStartedAnew::"
        "test_answers_what_it_answered_before_and_nothing_else_though_its_memory_is_from_before",
        "from bract.client.disk.step_journal import Journal\nJournal.answer = lambda self, step, request: None",
    ),
    "take another request for the same": (
        "client/secure_round/test_replays.py::TestARound::"
        "test_is_opened_for_one_list_and_for_that_one_as_often_as_it_is_asked",
        "import bract.client.secure_round as c\nfull = c.digest\n"
        "c.digest = lambda label, *parts: full(label, *(() if label == 'opening' else parts))",
    ),
    "try a round again that devices took part in": (
        "server/test_retries.py::TestARoundThatSomeTookPartIn::test_is_lost_and_charged_and_the_next_takes_its_place",
        "from bract.server.answers import Unfinished\nUnfinished.lost = property(lambda self: self.paid)",
    ),
    "charge nothing for a lost round": (
        "server/test_retries.py::TestARoundThatSomeTookPartIn::test_is_lost_and_charged_and_the_next_takes_its_place",
        "import bract.server.rounds as r\nlose = r._lose_round\n"
        "def free(training, ledger, state, fault):\n"
        "    fault.paid = True\n"
        "    return lose(training, ledger, state, fault)\n"
        "r._lose_round = free",
    ),
    "forget a round that a crash cut off": (
        "test_restarts.py::"
        "test_after_a_crash_the_server_counts_no_device_less_often_than_that_device_does[amid answers-local-True]",
        "import bract.server.rounds as r\nr.record_start = lambda *a: None",
    ),
    "count a device's rounds by run": (
        "client/disk/test_device_ledger.py::TestARoundThatWasTakenPartIn::"
        "test_is_counted_against_the_plan_whatever_runs_and_rounds_a_server_invents",
        "import bract.client.disk.device_ledger as s\nfull = s._new\n"
        "class Own:\n"
        "    def __init__(self, ledger, run):\n"
        "        self.entries = [e for e in ledger.entries if e.origin and e.origin.run == str(run)]\n"
        "s._new = lambda ledger, plan, run, round: full(Own(ledger, run), plan, run, round)",
    ),
    "show another pseudonym at each asking": (
        "client/disk/test_pseudonym.py::test_a_folder_has_one_name_a_plan_after_every_restart",
        "import secrets\nfrom bract.client.disk.pseudonym import Pseudonym\n"
        "Pseudonym.of = lambda self, digest: secrets.token_hex(32)",
    ),
    "show one pseudonym under all plans": (
        "client/disk/test_pseudonym.py::test_names_under_two_plans_and_of_two_folders_are_unlike",
        "from bract.client.disk.pseudonym import Pseudonym\nfull = Pseudonym.of\n"
        "Pseudonym.of = lambda self, digest: full(self, 64 * '0')",
    ),
    "let a repeated round in": (
        "client/disk/test_device_ledger.py::TestARoundThatWasTakenPartIn::"
        "test_is_refused_by_a_process_that_knows_nothing_of_it",
        "import bract.client.disk.device_ledger as s\n"
        "def fresh(ledger, plan, run, round):\n"
        "    event = s.charged_event(plan)\n"
        "    name, origin = str(len(ledger.entries)), s.Origin(plan.digest, str(run))\n"
        "    return s.Entry(round, name, (s.DEVICE,), event, event, origin)\n"
        "s._new = fresh",
    ),
    "keep the secrets of a round": (
        "client/secure_round/test_secrets.py::TestTheDevicesMemory::"
        "test_holds_nothing_of_the_round_that_it_opened_but_what_it_gave_away",
        "import bract.client.secure_round as c\nsit = c.SecureRound._sit\n"
        "c.SecureRound._sit = lambda self, seat: None if seat.stage == 'opened' else sit(self, seat)",
    ),
    "ask for shares before the charge": (
        "server/secure/test_dropouts.py::TestTheCharge::test_is_made_before_the_first_message_leaves_that_asks_for_shares",
        "import dataclasses, bract.server.aggregation.secure as s\n"
        "collect = s.SecureSum.collect\n"
        "def late(self, call, cohort):\n"
        "    due = []\n"
        "    collected = collect(self, dataclasses.replace(call, charge=due.append), cohort)\n"
        "    call.charge(*due)\n"
        "    return collected\n"
        "s.SecureSum.collect = late",
    ),
    "let a client back too early": (
        "server/test_correlated_noise.py::test_cohorts_are_full_and_no_client_is_back_before_as_many_rounds_as_there_are_bands",
        "import bract.server.cohort as c\nc.check_separation = lambda *a: None\n"
        "c.Participations.too_recent = lambda self, plan, round: frozenset()",
    ),
    "charge whoever is back too early": (
        "server/test_correlated_noise.py::test_a_client_that_is_back_too_early_ends_the_round",
        "import bract.server.cohort as c\nc.check_separation = lambda *a: None",
    ),
    "carry noise over a crash": (
        "server/test_correlated_crash.py::test_after_a_release_that_no_checkpoint_knows_of_noise_starts_afresh",
        "import bract.server.rounds as r\nr._with_sound_noise = lambda training, ledger, state: state",
    ),
    "forget the norm of the weights": (
        "server/test_correlated_noise.py::test_what_is_released_is_correlated_as_its_weights_say",
        "import bract.privacy.mechanisms.central as c\nc.weights_norm = lambda weights: float(weights[0])",
    ),
    "do not charge the ledger": (
        "test_guarantees.py::test_nothing_is_released_before_its_charge_is_on_disk",
        "from bract.privacy import Ledger\nLedger.spend = lambda self, entry: None",
    ),
    "charge after the release": (
        "test_guarantees.py::test_nothing_is_released_before_its_charge_is_on_disk",
        "from bract.privacy import Ledger\nspend, late = Ledger.spend, []\n"
        "def spend_late(self, entry):\n"
        "    if late: spend(self, late.pop())\n"
        "    late.append(entry)\n"
        "Ledger.spend = spend_late",
    ),
    "use one poisson sample again": (
        "test_guarantees.py::test_every_step_takes_a_fresh_poisson_sample",
        "from bract.simulations.seeded import SeededEntropy\nfresh = SeededEntropy.keystream\n"
        "SeededEntropy.keystream = lambda self, *p: fresh(self, *(p[:2] if 'sample' in p else p))",
    ),
    "count rounds under masks by the run": (
        "client/secure_round/test_replays.py::test_rounds_of_a_plan_are_counted_on_disk_over_all_runs",
        "import bract.client.secure_round as c\nfull = c.SecureRound._take_part\n"
        "def by_run(self):\n"
        "    made, c.digest = c.digest, lambda label, *parts: made(label, self.session.run, *parts)\n"
        "    try:\n        return full(self)\n"
        "    finally:\n        c.digest = made\n"
        "c.SecureRound._take_part = by_run",
    ),
    "charge a client that took part as often as planned": (
        "server/test_rounds_charge.py::"
        "test_a_client_that_took_part_as_often_as_planned_ends_the_round_before_anything_is_charged",
        "from bract.server.cohort import Participations as P\nP.check = lambda self, *a: None",
    ),
    "seat a node by the card of another": (
        "server/secure/test_hostile.py::test_a_node_is_seated_by_no_card_but_that_of_whom_it_is_counted_as",
        "from bract.server.aggregation.secure import SecureSum as S\nS._is_counted = lambda self, node, card: True",
    ),
    "charge as if nobody dropped out": (
        "client/test_charge.py::test_a_device_charges_the_noise_that_the_fewest_honest_survivors_bring",
        "import bract.client.disk.device_ledger as s\n"
        "s.charged_event = lambda plan: s.mechanism_of(plan).event('server', plan.cohort.size)",
    ),
    "let a budget be passed by a thousandth": (
        "privacy/ledger/test_ledger.py::test_refuses_what_passes_the_budget_by_a_hundred_millionth",
        "import bract.privacy.ledger.ledger as l\nl.SLACK = 1e-3",
    ),
    "leave out what a Fourier transform errs by": (
        "privacy/accounting/test_pld.py::test_no_mass_of_a_composition_is_below_the_exact_one",
        "import bract.privacy.accounting.pld as l\nl.BLUR = 0.0",
    ),
    "forget losses without bound": (
        "privacy/accounting/test_pld.py::test_a_loss_without_bound_is_charged_for_every_step",
        "import dataclasses, bract.privacy.accounting.pld as l\nfull = l.composed\n"
        "without = lambda part: dataclasses.replace(part, infinite=0.0)\n"
        "l.composed = lambda steps, delta: full([(without(part), count) for part, count in steps], delta)",
    ),
    "cut a seeded key to 32 bits": (
        "simulations/test_seeded.py::test_every_bit_of_a_key_depends_on_the_seed",
        "import bract.simulations.seeded as s\ndigest = s.hashlib.sha256\n"
        "s.hashlib = type('Cut', (), {'sha256': lambda text: type('D', (), "
        "{'digest': lambda self: digest(text).digest()[:4] + bytes(28)})()})",
    ),
    "take one owner for two where the name has another form": (
        "simulations/datasets/test_odd_csv.py::test_an_odd_csv_is_read_as_meant_or_refused",
        "import bract.simulations.datasets.checks as f\nf.clean = str.strip",
    ),
    "refuse a device's file for a value in it": (
        "privacy/test_npz.py::test_no_value_of_a_record_decides_whether_a_device_reads_its_file",
        "import bract.privacy.npz as a, numpy as np\nfull = a._fault\n"
        "a._fault = lambda x, y: full(x, y) or (None if np.isfinite(x).all() else 'a value is missing')",
    ),
    "sample more than the plan says": (
        "test_guarantees.py::test_every_step_takes_a_fresh_poisson_sample",
        "import bract.client.train as t\nplanned = t.poisson_sample\n"
        "t.poisson_sample = lambda keystream, rate, n: planned(keystream, min(1, 1.5 * rate), n)",
    ),
    "take a delta with which one unit could be published": (
        "privacy/plan/test_faults.py::test_a_delta_that_would_let_one_unit_be_published_is_refused",
        "import bract.privacy.plan.rules as r\nr.gives_one_away = lambda delta, units: delta * units > 1.005",
    ),
    "leave a partition's records open to all": (
        "cli/test_folders.py::test_records_and_keys_of_a_partition_are_their_owners_alone",
        "import bract.simulations.shards as s\nwrite = s.replace_file\n"
        "s.replace_file = lambda path, data, private=False: write(path, data)",
    ),
    "go by a name that its owner did not sign for": (
        "server/test_directory.py::test_an_identity_that_is_not_signed_for_keeps_nobody_out",
        "import bract.server.directory as d\nd.introduces = lambda *rest: True",
    ),
    "look at the terms for a message of a round that never began": (
        "client/test_refusals_are_final.py::test_a_message_of_a_round_that_never_began_tells_nothing_of_the_terms",
        "from bract.client.disk.step_journal import Journal\nJournal.entered = lambda self, run, plan: True",
    ),
    "hold on to the secrets of a round that is never opened": (
        "simulations/test_run_memory.py::test_the_secrets_of_a_last_round_that_is_never_opened_are_let_go_of",
        "from bract.simulations.local_grid import LocalGrid\nLocalGrid.forget = lambda self: None",
    ),
    "go on with a run over other data": (
        "simulations/test_same_data.py::test_swapped_data_are_refused_when_a_run_goes_on",
        "import bract.simulations.run as r\nr.check_data = lambda path, found: None",
    ),
}


def run(test: str, damage: str) -> str:
    code = f"{damage}\nimport pytest, sys\nsys.exit(pytest.main(['-x', '-p', 'no:cacheprovider', {test!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TESTS.parent)
    return done.stdout


@pytest.mark.full
@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotage_is_caught(name: str) -> None:
    test, damage = SABOTAGE[name]
    assert f"FAILED tests/{test}" in run(f"{TESTS / test}", damage)


def test_without_sabotage_the_guarantees_hold() -> None:
    output = run(str(TESTS / "test_guarantees.py"), "")
    assert " passed" in output
    assert "FAILED" not in output
