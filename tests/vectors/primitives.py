"""What the protocol takes from standards, written from them: HKDF, X25519, and ML-KEM-768 with its randomness given.

For test vectors only: nothing here takes the same time for all secrets.
"""

from __future__ import annotations

import hashlib
import hmac

FIELD = 2**255 - 19
Q, N, RANK = 3329, 256, 3
Poly = list[int]


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256."""
    key = hmac.digest(salt or bytes(32), secret, "sha256")
    block, made = b"", b""
    while len(made) < length:
        block = hmac.digest(key, block + info + bytes([len(made) // 32 + 1]), "sha256")
        made += block
    return made[:length]


def x25519(scalar: bytes, point: bytes = bytes([9]) + bytes(31)) -> bytes:
    """RFC 7748, section 5: the Montgomery ladder."""
    k = int.from_bytes(scalar, "little") & ~7 & ((1 << 254) - 1) | (1 << 254)
    u = int.from_bytes(point, "little") % (1 << 255)
    x2, z2, x3, z3 = 1, 0, u, 1
    for bit in f"{k:0255b}":
        if bit == "1":
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a, c * b, a * a, b * b
        x3, z3 = (da + cb) ** 2 % FIELD, u * (da - cb) ** 2 % FIELD
        x2, z2 = aa * bb % FIELD, (aa - bb) * (aa + 121665 * (aa - bb)) % FIELD
        if bit == "1":
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, FIELD - 2, FIELD) % FIELD).to_bytes(32, "little")


def _reversed(i: int) -> int:
    return int(f"{i:07b}"[::-1], 2)


ZETAS = [pow(17, _reversed(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * _reversed(i) + 1, Q) for i in range(128)]


def ntt(f: Poly) -> Poly:
    """FIPS 203, algorithm 9."""
    f, i, length = list(f), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            for j in range(start, start + length):
                t = ZETAS[i] * f[j + length]
                f[j], f[j + length] = (f[j] + t) % Q, (f[j] - t) % Q
            i += 1
        length //= 2
    return f


def inverse_ntt(f: Poly) -> Poly:
    """FIPS 203, algorithm 10."""
    f, i, length = list(f), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            for j in range(start, start + length):
                t = f[j]
                f[j], f[j + length] = (t + f[j + length]) % Q, ZETAS[i] * (f[j + length] - t) % Q
            i -= 1
        length *= 2
    return [3303 * x % Q for x in f]


def dot(rows: list[Poly], columns: list[Poly]) -> Poly:
    """The sum of products of transformed polynomials: FIPS 203, algorithms 11 and 12."""
    total = [0] * N
    for f, g in zip(rows, columns, strict=True):
        for i in range(128):
            a0, a1, b0, b1 = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
            total[2 * i] = (total[2 * i] + a0 * b0 + a1 * b1 * GAMMAS[i]) % Q
            total[2 * i + 1] = (total[2 * i + 1] + a0 * b1 + a1 * b0) % Q
    return total


def plus(*polys: Poly) -> Poly:
    return [sum(column) % Q for column in zip(*polys, strict=True)]


def uniform(seed: bytes) -> Poly:
    """FIPS 203, algorithm 7: by rejection from SHAKE128. 2,000 bytes suffice but for 2^-200."""
    stream, f = hashlib.shake_128(seed).digest(2000), Poly()
    for at in range(0, 1998, 3):
        a, b, c = stream[at : at + 3]
        f += [d for d in (a + 256 * (b % 16), b // 16 + 16 * c) if d < Q]
    return f[:N]


def small(key: bytes, number: int) -> Poly:
    """FIPS 203, algorithm 8 with eta = 2, on the output of SHAKE256."""
    bits = int.from_bytes(hashlib.shake_256(key + bytes([number])).digest(128), "little")
    nibbles = [bits >> 4 * i & 15 for i in range(N)]
    return [((x & 1) + (x >> 1 & 1) - (x >> 2 & 1) - (x >> 3)) % Q for x in nibbles]


def pack(f: Poly, bits: int) -> bytes:
    """FIPS 203, algorithm 5."""
    return sum(x << bits * i for i, x in enumerate(f)).to_bytes(32 * bits, "little")


def unpack(data: bytes, bits: int) -> Poly:
    """FIPS 203, algorithm 6."""
    number = int.from_bytes(data, "little")
    return [number >> bits * i & ((1 << bits) - 1) for i in range(N)]


def compress(f: Poly, bits: int) -> bytes:
    return pack([(2 * (x << bits) + Q) // (2 * Q) % (1 << bits) for x in f], bits)


def matrix(rho: bytes) -> list[list[Poly]]:
    return [[uniform(rho + bytes([j, i])) for j in range(RANK)] for i in range(RANK)]


def mlkem_public(seed: bytes) -> bytes:
    """The public key of a seed d || z: FIPS 203, algorithm 13."""
    expanded = hashlib.sha3_512(seed[:32] + bytes([RANK])).digest()
    rho, sigma = expanded[:32], expanded[32:]
    s, e = ([ntt(small(sigma, RANK * part + i)) for i in range(RANK)] for part in range(2))
    return b"".join(pack(plus(dot(row, s), noise), 12) for row, noise in zip(matrix(rho), e, strict=True)) + rho


def mlkem_encapsulate(public: bytes, message: bytes) -> tuple[bytes, bytes]:
    """The secret and the ciphertext for a given random message: FIPS 203, algorithms 14 and 17."""
    expanded = hashlib.sha3_512(message + hashlib.sha3_256(public).digest()).digest()
    secret, seed, rho = expanded[:32], expanded[32:], public[-32:]
    t = [unpack(public[384 * i : 384 * (i + 1)], 12) for i in range(RANK)]
    y = [ntt(small(seed, i)) for i in range(RANK)]
    columns = list(zip(*matrix(rho), strict=True))
    u = [plus(inverse_ntt(dot(list(columns[i]), y)), small(seed, RANK + i)) for i in range(RANK)]
    carried = [1665 * bit for bit in unpack(message, 1)]
    v = plus(inverse_ntt(dot(t, y)), small(seed, 2 * RANK), carried)
    return secret, b"".join(compress(part, 10) for part in u) + compress(v, 4)


def mlkem_rejected(seed: bytes, ciphertext: bytes) -> bytes:
    """The secret that a ciphertext of nobody's gives: FIPS 203, algorithm 18, line 7."""
    return hashlib.shake_256(seed[32:] + ciphertext).digest(32)
