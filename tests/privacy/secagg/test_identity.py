from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, x25519

from bract.privacy import DataError
from bract.privacy.secagg.identity import (
    NO_CERTIFICATE,
    Identity,
    Roster,
    certify,
    new_identity,
    public_text,
    read_identity,
    read_roster,
    roster_of,
    verified,
    write_identity,
)

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def fault(reader: object, *paths: Path) -> str:
    """Return the two lines that a reader raises."""
    with pytest.raises(DataError) as raised:
        reader(*paths)  # type: ignore[operator]
    lines = str(raised.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    return lines[0]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "identity.pem"
    write_identity(path, new_identity())
    return path


def store(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def test_a_written_identity_is_for_its_owner_alone_and_comes_back(tmp_path: Path) -> None:
    path, identity = tmp_path / "identity.pem", new_identity()
    write_identity(path, identity)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    back = read_identity(path)
    assert back.public == identity.public
    assert back.certificate == NO_CERTIFICATE
    assert verified(identity.public, back.sign(b"message"), b"message")


def test_an_identity_is_never_written_over_a_file(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(FileExistsError):
        write_identity(key_file, new_identity())
    assert key_file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_an_identity_that_others_can_reach_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    assert "others than its owner" in fault(read_identity, key_file)


@pytest.mark.parametrize(
    "data", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused(tmp_path: Path, data: bytes) -> None:
    assert "cannot read the identity" in fault(read_identity, store(tmp_path / "key", data))


def test_a_missing_identity_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "cannot read the identity" in fault(read_identity, tmp_path / "none")
    tmp_path.chmod(0o700)
    assert "cannot read the identity" in fault(read_identity, tmp_path)


@pytest.mark.parametrize(
    "key",
    [
        x25519.X25519PrivateKey.from_private_bytes(bytes(32)),
        ed448.Ed448PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256R1()),
    ],
)
def test_a_key_of_another_kind_is_refused(tmp_path: Path, key: object) -> None:
    data = key.private_bytes(PEM, PKCS8, serialization.NoEncryption())  # type: ignore[attr-defined]
    assert "no ed25519 key" in fault(read_identity, store(tmp_path / "key", data))


def test_a_key_under_a_password_is_refused(tmp_path: Path) -> None:
    locked = new_identity().key.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"word"))
    assert "cannot read the identity" in fault(read_identity, store(tmp_path / "key", locked))


def test_a_public_key_is_no_identity(tmp_path: Path) -> None:
    shown = new_identity().key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert "cannot read the identity" in fault(read_identity, store(tmp_path / "key", shown))


def test_a_certificate_travels_with_its_identity(key_file: Path, tmp_path: Path) -> None:
    authority, proof = new_identity(), tmp_path / "certificate"
    certificate = certify(authority, read_identity(key_file).public)
    proof.write_bytes(base64.encodebytes(certificate))
    identity = read_identity(key_file, proof)
    assert identity.certificate == certificate
    assert Roster(authority=authority.public).admits(identity.public, identity.certificate)


@pytest.mark.parametrize("text", [b"", b"QUJD", base64.b64encode(bytes(63)), base64.b64encode(bytes(65)), b"A"])
def test_what_is_no_certificate_is_refused(key_file: Path, tmp_path: Path, text: bytes) -> None:
    fault(read_identity, key_file, store(tmp_path / "certificate", text))


def test_a_missing_certificate_is_refused(key_file: Path, tmp_path: Path) -> None:
    assert "cannot read the identity" in fault(read_identity, key_file, tmp_path / "none")


def test_a_certificate_admits_its_owner_under_its_authority_and_nobody_else() -> None:
    authority, other, device, stranger = (new_identity() for _ in range(4))
    certificate = certify(authority, device.public)
    roster = Roster(authority=authority.public)
    assert roster.admits(device.public, certificate)
    assert not roster.admits(stranger.public, certificate)
    assert not roster.admits(device.public, NO_CERTIFICATE)
    assert not roster.admits(device.public, certify(other, device.public))
    assert not roster.admits(device.public, certificate[:-1])
    assert not roster.admits(device.public, authority.sign(device.public))
    assert not Roster(authority=other.public).admits(device.public, certificate)
    assert not Roster().admits(device.public, certificate)


def test_a_listed_device_needs_no_certificate() -> None:
    device, stranger = new_identity(), new_identity()
    roster = roster_of([device])
    assert roster.admits(device.public, NO_CERTIFICATE)
    assert not roster.admits(stranger.public, NO_CERTIFICATE)


@pytest.mark.parametrize("change", ["public", "signature", "message"])
def test_a_signature_is_of_one_message_by_one_key(change: str) -> None:
    identity, message = new_identity(), b"message"
    parts = {"public": identity.public, "signature": identity.sign(message), "message": message}
    assert verified(**parts)
    for at in range(len(parts[change])):
        assert not verified(**{**parts, change: bytes(x ^ (i == at) for i, x in enumerate(parts[change]))})
    assert not verified(**{**parts, change: parts[change][:-1]})
    assert not verified(**{**parts, change: parts[change] + b"\x00"})
    assert not verified(**{**parts, change: b""})


def toml(*devices: bytes, authority: bytes | None = None, more: str = "") -> str:
    top = "" if authority is None else f'authority = "{public_text(authority)}"\n'
    rows = "".join(f'device{i} = "{public_text(public)}"\n' for i, public in enumerate(devices))
    return f"{top}{more}[devices]\n{rows}" if rows else top + more


def test_a_roster_comes_back_from_its_file(tmp_path: Path) -> None:
    one, two, authority = (new_identity().public for _ in range(3))
    path = tmp_path / "roster.toml"
    for text, roster in (
        (toml(one, two), Roster(frozenset({one, two}))),
        (toml(authority=authority), Roster(authority=authority)),
        (toml(one, authority=authority), Roster(frozenset({one}), authority)),
    ):
        path.write_text(text)
        assert read_roster(path) == roster


def test_a_public_key_is_written_as_openssl_prints_it() -> None:
    public = new_identity().public
    pem = ed25519.Ed25519PublicKey.from_public_bytes(public).public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert public_text(public) == pem.decode().splitlines()[1]


ONE = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
FOREIGN = base64.b64encode(
    x25519.X25519PrivateKey.from_private_bytes(bytes(32))
    .public_key()
    .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[devices]\n",
        "devices = 5\n",
        'devices = "abc"\n',
        'devices = ["abc"]\n',
        "[devices]\na = 5\n",
        '[devices]\na = ""\n',
        '[devices]\na = "not base64!"\n',
        '[devices]\na = "QUJD"\n',
        f'[devices]\na = "{FOREIGN}"\n',
        f'[devices]\na = "{public_text(ONE)}x"\n',
        f'[devices.a]\nkey = "{public_text(ONE)}"\n',
        f'authority = "{FOREIGN}"\n',
        "authority = 7\n",
        'authority = ""\n',
        toml(ONE, ONE),
        toml(ONE, more='name = "clinic"\n'),
        toml(ONE) + "[more]\n",
        "[devices\n",
        "[devices]\na = 1\na = 2\n",
    ],
)
def test_what_is_no_roster_is_refused_in_two_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "roster.toml"
    path.write_text(text)
    assert "the roster" in fault(read_roster, path)


def test_a_roster_that_is_missing_a_folder_or_no_text_is_refused(tmp_path: Path) -> None:
    fault(read_roster, tmp_path / "none")
    fault(read_roster, tmp_path)
    fault(read_roster, store(tmp_path / "roster", b"\xff\xfe"))


def test_an_identity_prints_the_beginning_of_its_public_key_alone() -> None:
    identity = new_identity()
    assert repr(identity) == f"Identity({identity.public.hex()[:8]})"
    assert identity.key.private_bytes_raw().hex() not in repr(Identity(identity.key, bytes(64)))


def test_a_key_of_a_kind_that_nobody_knows_is_a_fault_in_two_lines(tmp_path: Path) -> None:
    """A point of a curve that the library does not support."""
    exotic = bytes.fromhex("3042301406072a8648ce3d020106092b2403030208010101032a0004") + bytes(40)
    encoded = base64.b64encode(exotic).decode()
    roster = tmp_path / "roster.toml"
    roster.write_text(f'[devices]\na = "{encoded}"\n')
    with pytest.raises(DataError, match="cannot read the roster"):
        read_roster(roster)
