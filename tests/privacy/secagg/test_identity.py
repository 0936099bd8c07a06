"""Identities, certificates and rosters on disk."""

from __future__ import annotations

import base64
import os
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
    sound,
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


def test_a_written_identity_is_private_and_comes_back(tmp_path: Path) -> None:
    """It is for its owner alone."""
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
    assert "users other than its owner" in fault(read_identity, key_file)


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
    assert "not an ed25519 key" in fault(read_identity, store(tmp_path / "key", data))


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


def test_a_certificate_in_other_base64_is_refused(key_file: Path, tmp_path: Path) -> None:
    """The last letter has bits to spare: where they are set, another text gives the same data."""
    certificate = certify(new_identity(), read_identity(key_file).public)
    text = base64.b64encode(certificate)
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = len(text.rstrip(b"=")) - 1
    other = text[:last] + letters[letters.index(text[last]) + 1 :][:1] + text[last + 1 :]
    assert base64.b64decode(other) == certificate
    fault(read_identity, key_file, store(tmp_path / "certificate", other))


def test_a_missing_certificate_is_refused(key_file: Path, tmp_path: Path) -> None:
    assert "cannot read the identity" in fault(read_identity, key_file, tmp_path / "none")


def test_a_certificate_admits_its_owner_and_nobody_else() -> None:
    """It counts under its own authority."""
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


def test_an_identity_prints_the_start_of_its_public_key_alone() -> None:
    identity = new_identity()
    assert repr(identity) == f"Identity({identity.public.hex()[:8]})"
    assert identity.key.private_bytes_raw().hex() not in repr(Identity(identity.key, bytes(64)))


def test_a_key_of_an_unknown_kind_is_a_fault_in_two_lines(tmp_path: Path) -> None:
    """A point of a curve that the library does not support."""
    exotic = bytes.fromhex("3042301406072a8648ce3d020106092b2403030208010101032a0004") + bytes(40)
    encoded = base64.b64encode(exotic).decode()
    roster = tmp_path / "roster.toml"
    roster.write_text(f'[devices]\na = "{encoded}"\n')
    with pytest.raises(DataError, match="cannot read the roster"):
        read_roster(roster)


SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
"""All encodings, canonical or not, of the 8 points of small order (Chalkias et al. 2020, table 1)."""


def der_text(public: bytes) -> str:
    return base64.b64encode(bytes.fromhex("302a300506032b6570032100") + public).decode()


class TestAKeyThatAnybodyCanSignFor:
    @pytest.mark.parametrize("encoded", SMALL_ORDER)
    def test_is_in_no_roster_as_a_device_or_an_authority(self, tmp_path: Path, encoded: str) -> None:
        path = tmp_path / "roster.toml"
        text = der_text(bytes.fromhex(encoded))
        for line in (f'[devices]\na = "{text}"', f'authority = "{text}"'):
            path.write_text(line)
            assert "cannot read the roster" in fault(read_roster, path)

    @pytest.mark.parametrize("encoded", SMALL_ORDER)
    def test_has_signed_nothing(self, encoded: str) -> None:
        """R the neutral point and S zero: the signature that such keys make fit one message in eight at least."""
        forged = bytes([1, *[0] * 31]) + bytes(32)
        assert not any(verified(bytes.fromhex(encoded), forged, bytes([n])) for n in range(64))

    def test_is_told_from_a_true_one_and_a_point_from_what_is_none(self) -> None:
        assert all(sound(new_identity().public) for _ in range(50))
        on_curve = sum(sound(y.to_bytes(32, "little")) for y in range(2, 102))
        assert 30 < on_curve < 70
        assert not sound(b"")


class TestBase64:
    @pytest.fixture
    def listed(self) -> str:
        return public_text(new_identity().public)

    @pytest.mark.parametrize(
        ("before", "after"), [("", "AAAA"), ("", "="), ("", " "), (" ", ""), ("", "!"), ("", "\\n")]
    )
    def test_of_a_roster_has_nothing_around_it(self, tmp_path: Path, listed: str, before: str, after: str) -> None:
        path = tmp_path / "roster.toml"
        path.write_text(f'[devices]\na = "{listed}"\n')
        assert len(read_roster(path).devices) == 1
        path.write_text(f'[devices]\na = "{before}{listed}{after}"\n')
        assert "cannot read the roster" in fault(read_roster, path)

    @pytest.mark.parametrize("more", [b"QUJD", b"=", b"!", b"\nand more", b"\x00"])
    def test_of_a_certificate_has_nothing_around_it(self, key_file: Path, tmp_path: Path, more: bytes) -> None:
        proof = base64.encodebytes(bytes(range(64)))
        assert read_identity(key_file, store(tmp_path / "certificate", proof)).certificate == bytes(range(64))
        fault(read_identity, key_file, store(tmp_path / "certificate", proof + more))

    def test_says_each_key_in_one_way_only(self, tmp_path: Path) -> None:
        """The last character of 44 bytes holds four bits that say nothing."""
        listed = public_text(new_identity().public)
        assert listed.endswith("=")
        twin = listed[:-2] + chr(ord(listed[-2]) + 1) + "="
        path = tmp_path / "roster.toml"
        path.write_text(f'[devices]\na = "{twin}"\n')
        assert "cannot read the roster" in fault(read_roster, path)


@pytest.mark.parametrize("name", ["identity.pem", "."])
@pytest.mark.parametrize("more", [0o020, 0o002])
def test_an_identity_that_others_can_replace_is_refused(key_file: Path, name: str, more: int) -> None:
    place = key_file.parent / name
    place.chmod(0o700 | more)
    fault(read_identity, key_file)
    place.chmod(0o1700 | more) if name == "." else place.chmod(0o600)
    read_identity(key_file)


def test_an_identity_of_another_user_is_refused(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    if key_file.stat().st_uid:
        assert "users other than its owner can change" in fault(read_identity, key_file)
    else:
        read_identity(key_file)


def test_a_link_to_an_identity_is_looked_at_on_both_sides(key_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "link").symlink_to(key_file)
    read_identity(folder / "link")
    folder.chmod(0o777)
    assert "users other than its owner can change" in fault(read_identity, folder / "link")


def test_a_new_identity_is_on_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        synced.append(path.read_bytes() if path.is_file() else str(path).encode())

    monkeypatch.setattr(os, "fsync", watched)
    write_identity(tmp_path / "identity.pem", new_identity())
    assert synced == [(tmp_path / "identity.pem").read_bytes(), str(tmp_path).encode()]


def test_a_roster_that_is_too_large_or_too_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "roster.toml"
    for text in ("#" * (1 << 22) + "\n", "a = " + "[" * 30_000):
        path.write_text(text)
        assert "cannot read the roster" in fault(read_roster, path)
