"""The name by which a server counts a device that is on no roster: it follows the data, and links no two studies.

A node's number changes when it, or the server, is started anew. The secret that the name is made from lies in the
state folder, beside the device's ledger: nodes that share the folder are one client, and show one name.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from ..privacy import StateError
from ..privacy.storage import create_once, make_folder

FILE = "pseudonym.bract"
HEADER = b"bract pseudonym 1\n"
SECRET_BYTES = 32


@dataclass(frozen=True)
class Pseudonym:
    """The device's names, made from the secret in its state folder, which is made when it is first needed."""

    folder: Path

    def of(self, plan_digest: str) -> str:
        """Return the name under the plan of this digest, 64 hexadecimal digits: what the server is shown.

        Guarantee: HMAC-SHA256 of the digest under 32 random bytes, so names under two plans have nothing in common
        for who does not know the secret.

        Raises:
            StateError: the secret is damaged, or others than its owner can read it.
            StorageError: it cannot be written.
        """
        make_folder(self.folder)
        path = self.folder / FILE
        content = create_once(path, lambda: _sealed(secrets.token_bytes(SECRET_BYTES)), private=True)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise StateError(f"others than its owner can read {path}", f"type: chmod 600 {path}")
        return hmac.new(_opened(path, content), bytes.fromhex(plan_digest), hashlib.sha256).hexdigest()


def _sealed(secret: bytes) -> bytes:
    return HEADER + secret + hashlib.sha256(HEADER + secret).digest()


def _opened(path: Path, content: bytes) -> bytes:
    secret = content[len(HEADER) : len(HEADER) + SECRET_BYTES]
    if content != _sealed(secret) or len(secret) != SECRET_BYTES:
        raise StateError(
            f"{path} is damaged: it holds no pseudonym's secret",
            "restore it from a copy; without it a server takes the device for one more client",
        )
    return secret
