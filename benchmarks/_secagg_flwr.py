"""flwr's side of `secagg.py`: the functions of its SecAgg+ mod and workflow, called in the same order."""

from __future__ import annotations

import numpy as np
from flwr.app import ConfigRecord
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
)
from flwr.common import Parameters, bytes_to_ndarray, ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key
from numpy.typing import NDArray

EXAMPLES, MOST_EXAMPLES, CLIP = 100, 1000.0, 8.0


class Flwr:
    """The nodes 0, 1, ..., which have shared their keys. Each node is a `SecAggPlusState` of flwr's client mod."""

    def __init__(self, devices: int, threshold: int, modulus: int, update: NDArray[np.float32]) -> None:
        self.threshold, self.modulus, self.update = threshold, modulus, update
        self.weight = round(EXAMPLES / MOST_EXAMPLES * (modulus // devices))
        setup = {
            Key.SAMPLE_NUMBER: devices,
            Key.SHARE_NUMBER: devices,
            Key.THRESHOLD: threshold,
            Key.CLIPPING_RANGE: CLIP,
            Key.TARGET_RANGE: modulus // devices,
            Key.MOD_RANGE: modulus,
            Key.MAX_WEIGHT: MOST_EXAMPLES,
        }
        self.nodes = [SecAggPlusState(nid=node) for node in range(devices)]
        shown = [_setup(state, ConfigRecord(setup)) for state in self.nodes]
        self.keys = {str(n): [keys[Key.PUBLIC_KEY_1], keys[Key.PUBLIC_KEY_2]] for n, keys in enumerate(shown)}
        shared = [_share_keys(state, ConfigRecord(self.keys)) for state in self.nodes]
        self.boxes = [dict(zip(s[Key.DESTINATION_LIST], s[Key.CIPHERTEXT_LIST], strict=True)) for s in shared]
        self.parameters = Parameters([ndarray_to_bytes(update)], "numpy.ndarray")
        self.total = [np.zeros(1, dtype=np.int64), np.zeros(len(update), dtype=np.int64)]
        self.sent = self.client_message()

    def client_step(self) -> list[bytes]:
        """Return the first node's masked vector as sent: agree on keys, quantise, mask."""
        state, weight = self.nodes[0], self.weight
        parameters = parameters_multiply([self.update], weight / state.target_range)
        masked = factor_combine(weight, quantize(parameters, CLIP, state.target_range))
        shape = get_parameters_shape(masked)
        masked = parameters_addition(masked, pseudo_rand_gen(state.rd_seed, self.modulus, shape))
        for other in range(1, len(self.nodes)):
            key = generate_shared_key(bytes_to_private_key(state.sk1), bytes_to_public_key(self.keys[str(other)][0]))
            masked = parameters_subtraction(masked, pseudo_rand_gen(key, self.modulus, shape))
        return [ndarray_to_bytes(part) for part in parameters_mod(masked, self.modulus)]

    def client_message(self, node: int = 0) -> list[bytes]:
        """Return any node's masked vector by its whole step: open the boxes, then as `client_step`."""
        sources = [source for source in range(len(self.nodes)) if source != node]
        boxes = [self.boxes[source][node] for source in sources]
        configs = ConfigRecord({Key.CIPHERTEXT_LIST: boxes, Key.SOURCE_LIST: sources})
        done = _collect_masked_vectors(self.nodes[node], configs, EXAMPLES, self.parameters)
        return done[Key.MASKED_PARAMETERS]

    def prepare_server(self) -> None:
        """Let as many nodes as the threshold open their boxes, and collect their shares."""
        for node in range(1, self.threshold + 1):
            self.client_message(node)
        self.own, self.key = self.shares(0)

    def shares(self, owner: int) -> tuple[list[bytes], list[bytes]]:
        """Return just enough shares of a node's own seed and of its key. (flwr's workflow combines all shares.)"""
        holders = [state for state in self.nodes if owner in state.rd_seed_share_dict][-self.threshold :]
        return [s.rd_seed_share_dict[owner] for s in holders], [s.sk1_share_dict[owner] for s in holders]

    def fold(self, sent: list[bytes]) -> None:
        """Add one masked vector, as it arrived, to the sum."""
        self.total = parameters_addition(self.total, [bytes_to_ndarray(data) for data in sent])

    def survivor(self) -> None:
        """Do the server's work for one survivor."""
        self.fold(self.sent)
        self.take_own_mask(self.own)

    def take_own_mask(self, shares: list[bytes]) -> None:
        """Subtract a survivor's own mask from the sum."""
        mask = pseudo_rand_gen(combine_shares(shares), self.modulus, get_parameters_shape(self.total))
        self.total = parameters_subtraction(self.total, mask)

    def dropout(self) -> None:
        """Do the server's work for the first node, which dropped out."""
        secret = combine_shares(self.key)
        for other in range(1, len(self.nodes)):
            key = generate_shared_key(bytes_to_private_key(secret), bytes_to_public_key(self.keys[str(other)][0]))
            mask = pseudo_rand_gen(key, self.modulus, get_parameters_shape(self.total))
            self.total = parameters_subtraction(self.total, mask)

    def check(self) -> None:
        """Sum a whole round in which the first node drops out.

        Raises:
            ValueError: the sum of the weights is not exact.
        """
        alive = range(1, len(self.nodes))
        self.total = [np.zeros_like(part) for part in self.total]
        for node in alive:
            self.fold(self.client_message(node))
        self.own, self.key = self.shares(0)
        self.dropout()
        for node in alive:
            self.take_own_mask(self.shares(node)[0])
        if int(parameters_mod(self.total, self.modulus)[0][0]) != len(alive) * self.weight:
            raise ValueError("flwr's sum is not exact")
