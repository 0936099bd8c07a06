"""What a device's journal keeps of a round: a refusal that leaves the round under way alone, and the last card."""

from __future__ import annotations

from devices import said_code
from secure_devices import make_lab

from bract.privacy.messages import CONSENT, KEYS, SHARES, UNMASK
from bract.privacy.server_view import Code


def test_who_refused_the_next_round_still_ends_the_paid_one() -> None:
    server = make_lab(3)
    server.until("masked")
    member = server.members[0]
    member.journal.refuse(1)
    assert said_code(server.tell(0, KEYS)) is Code.REFUSED
    assert server.section(
        server.tell(0, UNMASK, survivors=server.bits(range(3)), **server.context_signatures(range(3))), "opened"
    )
    assert said_code(server.tell(0, CONSENT, survivors=server.bits(range(3)))) is Code.LOST


def test_an_old_memory_shares_no_secrets_of_a_replaced_card() -> None:
    """The device's memory is older than its journal, which knows that the card was replaced."""
    server = make_lab(3)
    server.keys()
    state = server.members[0].context.state
    earlier = dict(state)
    server.tell(0, KEYS)
    for name, record in earlier.items():
        state[name] = record
    assert said_code(server.tell(0, SHARES, cards=server.seating(0))) is Code.LOST
