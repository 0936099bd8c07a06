"""Break secure aggregation where both sides use it: keys, graph, masks, shares."""

from __future__ import annotations

import math

from .registry import turns_red


@turns_red("privacy/secagg/test_masking.py::test_another_context_or_session_gives_other_masks_throughout")
def use_one_mask_in_two_rounds() -> None:
    import bract.privacy.secagg.masking as masking

    own_key = masking.own_key
    masking.own_key = lambda secret, identity, context: own_key(secret, identity, bytes(32))


@turns_red("privacy/secagg/test_masks.py::test_masks_and_noise_of_one_key_have_nothing_in_common[gcm_stream]")
def draw_masks_and_noise_from_one_stream() -> None:
    import bract.privacy.secagg.masks as masks

    masks.PURPOSE = bytes(12)


@turns_red("privacy/secagg/test_session.py::test_a_smaller_cohort_has_the_threshold_of_the_planned_one")
def count_colluders_of_those_who_are_seated_alone() -> None:
    import bract.privacy.secagg.session as session

    chosen = session.choose_graph
    session.choose_graph = lambda planned, bad, gone, seats: chosen(seats, bad * seats // planned, gone)


@turns_red("client/test_terms.py::test_a_share_of_colluders_that_is_no_device_is_not_enough")
def take_a_share_of_colluders_for_a_device() -> None:
    import bract.privacy.plan.plan as plan

    thresholds = plan.thresholds
    plan.thresholds = lambda devices, colluding, dropping: thresholds(devices, colluding, dropping)._replace(
        colluders=math.ceil(colluding * devices)
    )


@turns_red("privacy/secagg/test_unmask.py::test_two_wrong_openers_of_ten_lose_no_round[0]")
def take_a_wrong_share_for_a_right_one() -> None:
    from bract.privacy.secagg.unmask import Reconstruction

    Reconstruction._is_right = lambda *rest: True


@turns_red(
    "privacy/secagg/test_identity.py::TestAKeyThatAnybodyCanSignFor::test_is_in_no_roster_as_a_device_or_an_authority"
)
def believe_a_key_that_anybody_can_sign_for() -> None:
    import bract.privacy.secagg.identity as identity

    identity.sound = lambda public: True


@turns_red("test_bound_to_the_round.py::test_masks_are_bound_to_the_scale_of_the_clip_norm")
def leave_the_scale_out_of_what_masks_are_bound_to() -> None:
    import bract.privacy.messages as messages

    model_digest = messages.model_digest
    messages.model_digest = lambda parameters, scale: model_digest(parameters, 1.0)
