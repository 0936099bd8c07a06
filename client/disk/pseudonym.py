"""The pseudonym by which a server counts a device that is on no roster. Pseudonyms under two plans are unlinkable.

A node ID changes when the node or the server restarts, but a pseudonym does not. Its secret is in the state folder,
beside the device's ledger, so nodes that share the folder are one client with one pseudonym.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from ...privacy import StateError
from ...privacy.storage import create_once, make_folder

PSEUDONYM_FILE = "pseudonym.bract"
HEADER = b"bract pseudonym 1\n"
SECRET_BYTES = 32


@dataclass(frozen=True)
class Pseudonym:
    """The device's pseudonyms, derived from a secret in its state folder, which is created at first use."""

    folder: Path

    def of(self, plan_digest: str) -> str:
        """Return the pseudonym under the plan of this digest, 64 hexadecimal digits, public.

        Guarantee: it is the HMAC-SHA256 of the digest under 32 random bytes. Without this secret, pseudonyms under
        two plans cannot be linked.

        Raises:
            StateError: the secret is damaged, or users other than its owner can read it.
            StorageError: the secret cannot be written.
        """
        make_folder(self.folder)
        path = self.folder / PSEUDONYM_FILE
        content = create_once(path, lambda: _sealed(secrets.token_bytes(SECRET_BYTES)), private=True)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise StateError(f"users other than its owner can read {path}", f"type: chmod 600 {path}")
        return hmac.new(_opened(path, content), bytes.fromhex(plan_digest), hashlib.sha256).hexdigest()


def _sealed(secret: bytes) -> bytes:
    return HEADER + secret + hashlib.sha256(HEADER + secret).digest()


def _opened(path: Path, content: bytes) -> bytes:
    secret = content[len(HEADER) : len(HEADER) + SECRET_BYTES]
    if content != _sealed(secret) or len(secret) != SECRET_BYTES:
        raise StateError(
            f"{path} is damaged: it holds no pseudonym's secret",
            "restore it from a copy; without it, a server counts the device as a new client",
        )
    return secret
