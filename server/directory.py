"""The names of the connected devices: a client keeps its name when Flower gives its node a new ID.

Flower gives nodes new IDs when they, or a SuperLink without a database, restart. A device therefore shows a name that
belongs to its data: under secure aggregation, the public key of its identity, which is on the roster; else a
pseudonym, which only devices with the same state folder share.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable

import numpy as np
from flwr.serverapp import Grid

from ..privacy import Mechanism
from ..privacy.ledger.entries import NAME
from ..privacy.messages import WHO
from ..privacy.secagg.identity import introduces
from .answers import Answers
from .exchange import Answer, Request, exchange, poll

NO_PARAMETERS = np.zeros(0, dtype=np.float32)

TWINS = (
    "two nodes show one name, {}...: they count as one client, and the node that showed it last takes part. Unless "
    "one of them just restarted, a state folder or an identity is in use twice"
)


class Directory:
    """The names of the connected nodes. A node without a valid name is left out of every round.

    With a `run` ID, names are identities, and each must be signed for the run by its owner. Otherwise a node could
    show another's name, which is public in every roster, and exclude it. If two connected nodes show one name, `say`
    warns the operator, because each may keep its own count.
    """

    def __init__(
        self,
        grid: Grid,
        mechanism: Mechanism,
        run: int | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._grid, self._mechanism, self._run, self._say = grid, mechanism, run, say
        self._plan = mechanism.plan
        self._names: dict[int, str] = {}  # in the order in which they were shown
        self._asked: set[int] = set()
        self._nameless: dict[int, Answer] = {}
        self._twins: set[str] = set()

    @property
    def nameless(self) -> Answers:
        """The answers of the connected nodes that showed no valid name."""
        found = Answers(WHO)
        for answer in self._nameless.values():
            found.take(answer)
        return found

    def name(self, node: int) -> str:
        """Return the name that a node showed.

        Raises:
            KeyError: the node showed none.
        """
        return self._names[node]

    def names(self, nodes: Iterable[int]) -> list[str]:
        """Return the sorted names of these nodes."""
        return sorted(self._names[node] for node in nodes)

    def present(self) -> dict[str, int]:
        """Return the node of each connected client, sorted by name; new nodes are asked for their names.

        Two nodes with one name are one client, represented by the node that showed it last.
        """
        connected = set(self._grid.get_node_ids())
        self._ask(connected - self._asked)
        self._nameless = {node: answer for node, answer in self._nameless.items() if node in connected}
        self._say_twins(connected)
        found = {name: node for node, name in self._names.items() if node in connected}
        return {name: found[name] for name in sorted(found)}

    def gather(
        self, wanted: int, deadline: float, excluded: Collection[str] = (), most: float = math.inf
    ) -> dict[str, int]:
        """Return the connected clients, once at least `wanted` of them are not in `excluded`.

        It also returns once `most` clients are connected, or after `deadline` seconds. Nodes that showed no valid
        name before are asked once more.
        """
        self._asked = set(self._names)
        return poll(
            self.present, lambda found: len(found.keys() - set(excluded)) >= wanted or len(found) >= most, deadline
        )

    def _say_twins(self, connected: Collection[int]) -> None:
        """Report each name that two connected nodes show, only once for each name."""
        shown = Counter(name for node, name in self._names.items() if node in connected)
        for name in sorted(name for name, count in shown.items() if count > 1 and name not in self._twins):
            self._twins.add(name)
            self._say(TWINS.format(name[:12]))

    def _ask(self, nodes: Collection[int]) -> None:
        requests = [Request(node, WHO, 1) for node in sorted(nodes)]
        deadline = min(self._plan.aggregation.deadline, self._plan.cohort.deadline)
        self._asked |= set(nodes)
        for answer in exchange(self._grid, self._mechanism, requests, NO_PARAMETERS, deadline) if requests else ():
            name = answer.sections.get("name", b"").decode("ascii", "replace")
            if NAME.fullmatch(name) and self._is_owner(name, answer.sections.get("signature", b"")):
                self._names[answer.node] = name
                self._nameless.pop(answer.node, None)
            else:
                self._nameless[answer.node] = answer

    def _is_owner(self, name: str, signature: bytes) -> bool:
        """Return whether the signature proves that a node owns its name; True for pseudonyms, which have no proof."""
        if self._run is None:
            return True
        try:
            return introduces(bytes.fromhex(name), signature, self._run, bytes.fromhex(self._plan.digest))
        except ValueError:
            return False
