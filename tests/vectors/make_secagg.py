"""Print the test vectors of secure aggregation, `secagg.json`, by an implementation that shares no code with bract.

Bytes are in hexadecimal, as they are sent. Words of the ring are little-endian, 8 bytes each. Where the protocol
draws at random, the vectors say what was drawn: Shamir coefficients (of x, x^2, ... in this order, 33 bytes) and the
messages of ML-KEM's encapsulations. Devices are listed in the order of their identities.

    python tests/vectors/make_secagg.py > tests/vectors/secagg.json
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from primitives import mlkem_encapsulate, mlkem_rejected, x25519
from protocol import (
    MASKS,
    PRIME,
    Device,
    Entry,
    Keys,
    aes_ctr,
    bits_of,
    channel_key,
    coefficients,
    derive,
    digest,
    elements,
    from_words,
    given,
    masked,
    number,
    own_key,
    pack_lanes,
    pair_key,
    ring_neighbours,
    sealed_box,
    share,
    share_hashes,
    sparse_graph,
)


@dataclass
class Round:
    """A round over a complete graph in which `dropouts` share their keys and then send no vector."""

    name: str
    count: int
    hybrid: bool
    bits: int
    length: int
    dropouts: tuple[int, ...]
    threshold: int

    def vector(self, position: int) -> list[int]:
        bound = ((1 << (self.bits - 1)) - 1) // self.count
        return [number(f"{self.name} {position} {i}") % (2 * bound + 1) - bound for i in range(self.length)]

    def entry(self) -> Entry:
        plan, model = given(f"{self.name} plan"), given(f"{self.name} model")
        session = digest("session", 7, 3, plan, b"vectors 2")
        devices = [Device(f"{self.name} device {i}", session, self.hybrid) for i in range(self.count)]
        devices.sort(key=lambda device: device.identity)
        everyone = range(self.count)
        alive = [i for i in everyone if i not in self.dropouts]
        cards, members = digest("cards", session, *(d.card for d in devices)), bits_of(everyone, self.count)
        context = digest("context", session, cards, members, model)
        drawn = [[coefficients(f"{d.name} {use}", self.threshold) for use in ("own", "mask")] for d in devices]

        def pieces(owner: int, holder: int) -> tuple[bytes, bytes]:
            d, (own, mask) = devices[owner], drawn[owner]
            return share(d.own, own, holder + 1), share(d.mask.secret, mask, holder + 1)

        boxes = {
            (i, j): sealed_box(devices[i], devices[j], b"".join(pieces(i, j)))
            for i in everyone
            for j in everyone
            if i != j
        }
        words = {i: pack_lanes(self.vector(i), self.bits) for i in alive}
        sent = {
            i: masked(d, devices[:i] + devices[i + 1 :], words[i], context)
            for i, d in enumerate(devices)
            if i in alive
        }
        opened = {i: b"".join(pieces(j, i)[0 if j in alive else 1] for j in everyone) for i in alive}
        survivors = bits_of(alive, self.count)
        consented = digest("survivors", context, survivors)
        signatures = {i: devices[i].key.sign(consented) for i in alive}
        vouched = {i: devices[i].key.sign(digest("masked", context)) for i in alive}
        total = [sum(column) for column in zip(*(self.vector(i) for i in alive), strict=True)]
        first, message = devices[0], boxes[0, 1][1][:1]
        kem = mlkem_encapsulate(devices[1].channel_public[32:], bytes.fromhex(message[0]))[0] if message else b""
        return {
            "hybrid": self.hybrid,
            "run": 7,
            "round": 3,
            "plan": plan.hex(),
            "session": session.hex(),
            "threshold": self.threshold,
            "secrets": [d.secrets() for d in devices],
            "cards": [d.card.hex() for d in devices],
            "cards_digest": cards.hex(),
            "seating_0": b"".join((self.count.to_bytes(4, "big"), bytes(4), cards, *(d.card for d in devices))).hex(),
            "coefficients": [{"own": elements(own), "mask": elements(mask)} for own, mask in drawn],
            "channel_kem_0_1": kem.hex(),
            "channel_key_0_1": channel_key(first, devices[1], first, devices[1], kem).hex(),
            "sealed": [
                [{"to": j, "box": boxes[i, j][0].hex(), "messages": boxes[i, j][1]} for j in everyone if j != i]
                for i in everyone
            ],
            "kept_hashes": [share_hashes(d, d, b"".join(pieces(i, i))).hex() for i, d in enumerate(devices)],
            "invitation_0": (members + b"".join(boxes[i, 0][0] for i in everyone if i)).hex(),
            "model": model.hex(),
            "context": context.hex(),
            "own_key_0": own_key(first, context).hex(),
            "pair_key_0_1": pair_key(first, devices[1], context).hex(),
            "bits": self.bits,
            "vectors": {i: self.vector(i) for i in alive},
            "masked": {i: from_words(sent[i]) for i in alive},
            "survivors": survivors.hex(),
            "consent": b"".join(i.to_bytes(4, "big") + signatures[i] for i in alive).hex(),
            "vouched": b"".join(i.to_bytes(4, "big") + vouched[i] for i in alive).hex(),
            "opened": {i: opened[i].hex() for i in alive},
            "sum_masked": from_words(sum(column) for column in zip(*sent.values(), strict=True)),
            "sum": total,
        }


def digests() -> list[Entry]:
    cases = [("a", [b"b", 1]), ("", []), ("card", [b"", b""]), ("card", [b""]), ("numbers", [0, 2**40 + 5])]
    return [
        {
            "label": label,
            "parts": [part if isinstance(part, int) else part.hex() for part in parts],
            "digest": digest(label, *parts).hex(),
        }
        for label, parts in cases
    ]


def derivations() -> list[Entry]:
    secret, salt = given("derive secret"), given("derive salt")
    cases = [(b"", "pair", [], 32), (salt, "pair", [b"low", b"high"], 32), (salt, "long", [b""], 100)]
    return [
        {
            "secret": secret.hex(),
            "salt": extra.hex(),
            "label": label,
            "parts": [part.hex() for part in parts],
            "bytes": derive(secret, extra, label, *parts, length=length).hex(),
        }
        for extra, label, parts, length in cases
    ]


def keypairs() -> list[Entry]:
    entries = []
    for i in range(2):
        keys, other = Keys(given(f"keypair {i}")), Keys(given(f"other keypair {i}"))
        kem, ciphertext = mlkem_encapsulate(keys.public(True)[32:], given(f"kem message {i}"))
        foreign = given("foreign ciphertext") * 34
        entries.append(
            {
                "secret": keys.secret.hex(),
                "public": keys.public(True).hex(),
                "other": other.public(False).hex(),
                "exchanged": x25519(keys.x, other.public(False)).hex(),
                "ciphertext": ciphertext.hex(),
                "decapsulated": kem.hex(),
                "foreign": foreign.hex(),
                "rejected": mlkem_rejected(keys.seed, foreign).hex(),
            }
        )
    return entries


def certificates() -> Entry:
    authority = Ed25519PrivateKey.from_private_bytes(given("authority"))
    device = Ed25519PrivateKey.from_private_bytes(given("certified device")).public_key().public_bytes_raw()
    certificate = authority.sign(digest("certificate", device))
    public = authority.public_key().public_bytes_raw()
    return {"authority": public.hex(), "device": device.hex(), "certificate": certificate.hex()}


def streams() -> list[Entry]:
    entries = []
    for count in (1, 5, 40_000):
        key = given(f"stream {count}")
        data = aes_ctr(key, MASKS, 8 * count)
        ends = {"first": data[:32].hex(), "last": data[-32:].hex(), "sha256": hashlib.sha256(data).hexdigest()}
        entries.append({"key": key.hex(), "words": count, **ends})
    return entries


def lanes() -> list[Entry]:
    entries = []
    for bits in (12, 16, 21, 32, 64):
        bound = min(((1 << (bits - 1)) - 1) // 3, 2**46)
        vectors = [[number(f"lane {bits} {v} {i}") % (2 * bound + 1) - bound for i in range(11)] for v in range(2)]
        vectors.append([bound, -bound, bound, -bound, 0, 1, -1, bound, -bound, -1, 0])
        words = [pack_lanes(vector, bits) for vector in vectors]
        total = [sum(column) for column in zip(*vectors, strict=True)]
        summed = [sum(column) for column in zip(*words, strict=True)]
        packed = {"vectors": vectors, "words": [from_words(w) for w in words]}
        entries.append({"bits": bits, **packed, "sum": total, "sum_words": from_words(summed)})
    return entries


def sharings() -> list[Entry]:
    entries = []
    for threshold, points in ((1, [1, 2]), (2, [1, 2, 3]), (4, [2, 3, 5, 7, 300]), (3, [1, 2, 3])):
        name = f"shamir {threshold} of {len(points)}"
        secret = b"\xff" * 32 if len(points) == threshold else given(name)
        drawn = [PRIME - 1] * (threshold - 1) if len(points) == threshold else coefficients(name, threshold)
        shares = {str(point): share(secret, drawn, point).hex() for point in points}
        entries.append(
            {"secret": secret.hex(), "threshold": threshold, "coefficients": elements(drawn), "shares": shares}
        )
    return entries


def graphs() -> list[Entry]:
    entries = []
    for devices, bad, gone, gone_share in ((300, 15, 30, 0.1), (300, 99, 90, 0.3), (1000, 50, 100, 0.1)):
        degree, threshold = sparse_graph(devices, bad, gone)
        seed = given(f"graph {devices}")
        around = {str(p): ring_neighbours(devices, degree, seed, p) for p in (0, 1, 150, devices - 1)}
        chosen = {"devices": devices, "colluders": bad, "dropouts": gone_share}
        entries.append({**chosen, "degree": degree, "threshold": threshold, "seed": seed.hex(), "neighbours": around})
    return entries


def sets() -> list[Entry]:
    cases = [([], 1), ([0], 1), ([0, 2, 9], 10), ([7], 8), ([8], 9), (list(range(0, 300, 7)), 300)]
    return [{"members": m, "devices": n, "bits": bits_of(m, n).hex()} for m, n in cases]


def vectors() -> Entry:
    return {
        "protocol": "bract secagg 2",
        "digests": digests(),
        "derivations": derivations(),
        "keypairs": keypairs(),
        "certificate": certificates(),
        "streams": streams(),
        "lanes": lanes(),
        "sharings": sharings(),
        "graphs": graphs(),
        "sets": sets(),
        "rounds": [
            Round("x25519", 5, False, 16, 10, (3,), 4).entry(),
            Round("hybrid", 3, True, 21, 7, (1,), 2).entry(),
        ],
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))
