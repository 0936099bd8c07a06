"""Break what a device checks in a round of secure aggregation."""

from __future__ import annotations

from typing import Any

from .registry import turns_red

SURVIVORS = "client/secure_round/test_counts.py::TestFewerThanTheLeast::test_survivors_open_nothing"


@turns_red("client/secure_round/test_cards.py::TestAnAuthority::test_does_not_admit_whom_another_certified")
def let_any_stranger_share_keys() -> None:
    import bract.client.secure_round as secure_round

    secure_round.genuine = lambda card, session, roster: True


@turns_red(SURVIVORS)
def open_a_sum_of_too_few() -> None:
    from bract.client.secure_round import SecureRound

    SecureRound._check_count = lambda self, count: None


@turns_red("secagg_attacks/test_written_attacks.py::TestTwoLists::test_of_members_open_no_less[semi-honest]")
def open_shares_beside_survivors_of_other_members() -> None:
    import bract.client.secure_round as secure_round

    secure_round.check_context_signatures = lambda *rest: None


@turns_red("client/secure_round/test_two_lists.py::TestSignatures::test_by_too_few_open_nothing")
def open_without_signatures() -> None:
    from bract.client.secure_round import SecureRound

    SecureRound._check_signatures = lambda self, *rest: None


@turns_red(
    "client/secure_round/test_seatings.py::test_no_device_is_read_where_each_sits_with_colluders[local-semi-honest]"
)
def count_a_sums_devices_of_those_who_are_seated_alone() -> None:
    import bract.privacy.secagg.session as session
    from bract.client.secure_round import SecureRound

    SecureRound._check_count = lambda self, count: None
    session.choose_graph = lambda planned, bad, gone, seats: session.Graph(seats, seats - 1, (seats + 3) // 2 + 1)


@turns_red(
    "server/secure/test_hostile.py::TestSealedBoxes::test_that_do_not_open_cost_nobody_but_their_sender[0-x25519]"
)
def take_part_although_boxes_do_not_open() -> None:
    import bract.client.secure_round as secure_round

    unseal = secure_round.SecureRound._unseal

    def deaf(self: Any, view: Any, own: Any, members: tuple[int, ...], boxes: bytes) -> Any:
        others = [member for member in members if member != view.position]
        try:
            return unseal(self, view, own, members, boxes)
        except secure_round.BadBoxes:
            nothing = secure_round.SecretShares(bytes(33), bytes(33))
            return dict.fromkeys(others, nothing), [secure_round.Peer(view.cards[member]) for member in others]

    secure_round.SecureRound._unseal = deaf


@turns_red("client/secure_round/test_boxes.py::test_whoever_names_a_sender_masks_once_it_is_gone")
def acknowledge_boxes_that_do_not_open() -> None:
    from bract.client.secure_round import SecureRound

    acknowledge = SecureRound.acknowledge

    def blind(self: Any, invitation: bytes) -> None:
        self._open = lambda seat, invitation: None
        acknowledge(self, invitation)

    SecureRound.acknowledge = blind


@turns_red("client/secure_round/test_boxes.py::test_a_device_that_masked_acknowledges_nothing")
def acknowledge_boxes_after_masking() -> None:
    from bract.client.secure_round import SecureRound

    SecureRound._not_masked = lambda self: None


@turns_red("client/secure_round/test_boxes.py::test_the_answer_depends_on_no_record")
def acknowledge_boxes_once_the_records_are_read() -> None:
    import bract.client.app as app

    acknowledge = app._boxes

    def after_the_records(visit: Any) -> Any:
        visit.device.records()
        return acknowledge(visit)

    app._boxes = after_the_records


@turns_red("client/secure_round/test_seatings.py::test_a_device_masks_in_one_seating_a_round")
def mask_in_two_seatings_of_a_round() -> None:
    from bract.client.secure_round import SecureRound

    SecureRound._not_masked = lambda self: None


@turns_red("client/secure_round/test_replays.py::TestARound::test_is_opened_for_one_list_as_often_as_it_is_asked")
def take_another_request_for_the_same() -> None:
    import bract.client.secure_round as secure_round

    digest = secure_round.digest
    secure_round.digest = lambda label, *parts: digest(label, *(() if label == "opening" else parts))


@turns_red(
    "client/secure_round/test_secrets.py::TestTheDevicesMemory::test_holds_of_an_opened_round_what_it_gave_away"
)
def keep_the_secrets_of_a_round() -> None:
    from bract.client.secure_round import SecureRound

    sit = SecureRound._sit
    SecureRound._sit = lambda self, seat: None if seat.stage == "opened" else sit(self, seat)


@turns_red("client/secure_round/test_replays.py::test_rounds_of_a_plan_are_counted_on_disk_over_all_runs")
def count_rounds_under_masks_by_the_run() -> None:
    import bract.client.secure_round as secure_round

    take_part = secure_round.SecureRound._take_part

    def by_run(self: Any) -> Any:
        digest = secure_round.digest
        secure_round.digest = lambda label, *parts: digest(label, self.session.run, *parts)
        try:
            return take_part(self)
        finally:
            secure_round.digest = digest

    secure_round.SecureRound._take_part = by_run
