"""bract gives every test vector, and the second implementation that made them gives them again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bract.privacy.derive import VERSION, derive, digest
from bract.privacy.encoding.ring import WIDTHS, Ring
from bract.privacy.secagg.bitset import from_bits, to_bits
from bract.privacy.secagg.graph import sparse_graph
from bract.privacy.secagg.identity import Roster
from bract.privacy.secagg.keys import Keypair, PublicKeys
from bract.privacy.secagg.masks import Mask, add_masks, ctr_stream, gcm_stream
from bract.privacy.secagg.shamir import combine, split

FOLDER = Path(__file__).parents[2] / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "secagg.json").read_text())
of = bytes.fromhex


def cases(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", VECTORS[name])


def test_the_second_implementation_writes_the_file_as_it_is() -> None:
    made = subprocess.run(
        [sys.executable, "-B", FOLDER / "make_secagg.py"], capture_output=True, text=True, check=True
    )
    assert made.stdout == (FOLDER / "secagg.json").read_text()


def test_the_second_implementation_shares_no_code_with_bract() -> None:
    scripts = sorted(FOLDER.glob("*.py"))
    assert [path.name for path in scripts] == ["make_secagg.py", "primitives.py", "protocol.py"]
    lines = [line for path in scripts for line in path.read_text().splitlines()]
    assert not [line for line in lines if line.lstrip().startswith(("from bract", "import bract"))]
    code = "import sys, make_secagg; print([name for name in sys.modules if name.startswith('bract')])"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER)
    assert done.stdout.strip() == "[]"


def test_the_vectors_are_of_this_version_of_the_protocol() -> None:
    assert VECTORS["protocol"].encode() == VERSION


@cases("digests")
def test_digests(case: Any) -> None:
    parts = [part if isinstance(part, int) else of(part) for part in case["parts"]]
    assert digest(case["label"], *parts).hex() == case["digest"]


@cases("derivations")
def test_derivations(case: Any) -> None:
    parts, made = [of(part) for part in case["parts"]], of(case["bytes"])
    assert derive(of(case["secret"]), of(case["salt"]), case["label"], *parts, length=len(made)) == made


@cases("keypairs")
def test_key_pairs(case: Any) -> None:
    keys = Keypair(of(case["secret"]))
    assert keys.public(True).to_bytes().hex() == case["public"]
    assert keys.public(False).to_bytes().hex() == case["public"][:64]
    assert keys.exchange(PublicKeys(of(case["other"]))).hex() == case["exchanged"]
    assert keys.decapsulate(of(case["ciphertext"])).hex() == case["decapsulated"]
    assert keys.decapsulate(of(case["foreign"])).hex() == case["rejected"]


def test_certificate() -> None:
    case = VECTORS["certificate"]
    assert Roster(authority=of(case["authority"])).admits(of(case["device"]), of(case["certificate"]))


@cases("streams")
def test_mask_streams(case: Any) -> None:
    words = np.zeros(case["words"], dtype=np.uint64)
    add_masks(words, [Mask(of(case["key"]))])
    data = words.astype("<u8").tobytes()
    assert (data[:32].hex(), data[-32:].hex()) == (case["first"], case["last"])
    for data_again in (data, *(make(of(case["key"])).update(bytes(len(data))) for make in (gcm_stream, ctr_stream))):
        assert hashlib.sha256(data_again).hexdigest() == case["sha256"]


@cases("lanes")
def test_lanes(case: Any) -> None:
    ring, count = Ring(case["bits"]), len(case["sum"])
    vectors = [np.array(vector, dtype=np.int64) for vector in case["vectors"]]
    words = [ring.encode(vector) for vector in vectors]
    assert [w.astype("<u8").tobytes().hex() for w in words] == case["words"]
    total = words[0] + words[1] + words[2]
    assert total.astype("<u8").tobytes().hex() == case["sum_words"]
    assert ring.decode(total, count).tolist() == case["sum"]
    assert all(np.array_equal(ring.decode(w, count), v) for w, v in zip(words, vectors, strict=True))


def test_there_are_lanes_of_every_width() -> None:
    assert tuple(case["bits"] for case in VECTORS["lanes"]) == WIDTHS


@cases("sharings")
def test_shamir_shares(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([int(c, 16) for c in reversed(case["coefficients"])])
    monkeypatch.setattr("bract.privacy.secagg.shamir.secrets.randbelow", lambda limit: next(drawn))
    shares = {int(point): of(share) for point, share in case["shares"].items()}
    assert split(of(case["secret"]), case["threshold"], list(shares)) == list(shares.values())
    points, threshold = sorted(shares), case["threshold"]
    for chosen in (points[:threshold], points[-threshold:]):
        assert combine({point: shares[point] for point in chosen}).hex() == case["secret"]  # type: ignore[union-attr]


@cases("graphs")
def test_graphs(case: Any) -> None:
    graph = sparse_graph(case["devices"], case["colluders"], case["dropouts"])
    assert (graph.degree, graph.threshold) == (case["degree"], case["threshold"])
    for position, neighbours in case["neighbours"].items():
        assert list(graph.neighbours(int(position), of(case["seed"]))) == neighbours


@cases("sets")
def test_sets_of_devices(case: Any) -> None:
    assert to_bits(case["members"], case["devices"]).hex() == case["bits"]
    assert list(from_bits(of(case["bits"]), case["devices"])) == case["members"]
