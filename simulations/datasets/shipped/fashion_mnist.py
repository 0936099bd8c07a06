"""The full Fashion-MNIST, from a folder with its four IDX files or else from the Hugging Face hub."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import struct
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from ....privacy.errors import DataError
from ..checks import reading
from ..dataset import Dataset, path_of
from ..table import Source, Table
from ..telemetry import quiet

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
HUB = "zalando-datasets/fashion_mnist"
# SHA-256 of the original files.
FILES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
# SHA-256 of the decoded pixels followed by the labels, one byte each, in file order.
DECODED = {
    "train": "16d82e2b505296aa2b78bd5ea0992634f30419a4c97def7c907d154a35ac6157",
    "test": "9f1ec356a747bfe4ebab3cfb722d3694c9ca737e2570f6f90cf31d7b6fd689d4",
}
_HINT = "apt install dataset-fashion-mnist, or set data.path to a folder that holds its four .gz files"

Part = tuple[np.ndarray, np.ndarray]  # pixels uint8 [N, 28, 28], labels uint8 [N]


def load(path: Path | None = None) -> Source:
    """Return 60,000 + 10,000 pictures: features [N, 1, 28, 28] in [0, 1], labels 0..9, without clients.

    The files are read from `path` if it is given, else from $BRACT_DATA/fashion-mnist, Debian's folder or the hub.
    Each process reads and checks them once; every call returns new arrays.

    Raises: DataError if nothing is found, a file is missing, or a checksum is wrong.
    """
    train, test = _parts(_folder(path))
    return Source(_table(train), _table(test))


def parse_idx(payload: bytes, dimensions: int, name: str) -> np.ndarray:
    """Return the uint8 array (read-only, `dimensions` axes) in the bytes of an IDX file.

    Raises: DataError if the magic number, the sizes or the length are wrong.
    Reference: http://yann.lecun.com/exdb/mnist/ (the file format).
    """
    start = 4 + 4 * dimensions
    if len(payload) < start or payload[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{name} is not an IDX file of {dimensions} dimensions", _HINT)
    sizes = struct.unpack(f">{dimensions}I", payload[4:start])
    expected = int(np.prod(sizes, dtype=object))
    if len(payload) - start != expected:
        raise DataError(f"{name} announces {expected} values and holds {len(payload) - start}", _HINT)
    return np.frombuffer(payload, dtype=np.uint8, offset=start).reshape(sizes)


def _folder(path: Path | None) -> Path | None:
    """Return the folder to read, or None for the hub."""
    if path is not None:
        return path
    places = [Path(os.environ["BRACT_DATA"]) / "fashion-mnist"] if os.environ.get("BRACT_DATA") else []
    return next((place for place in [*places, DEBIAN] if place.is_dir()), None)


@lru_cache(maxsize=2)
def _parts(folder: Path | None) -> tuple[Part, Part]:
    """Return the training and the test part; pixels and labels are read-only."""
    if folder is None:
        return _from_hub()
    images, labels, test_images, test_labels = (_checked(folder / name) for name in FILES)
    return _pair(images, labels, "train"), _pair(test_images, test_labels, "test")


def _checked(file: Path) -> bytes:
    """Return the unpacked content of one of the four files, after a check of its checksum."""
    if not file.is_file():
        raise DataError(f"{file.parent} has no file {file.name}", _HINT)
    with reading(file):
        packed = file.read_bytes()
        if hashlib.sha256(packed).hexdigest() != FILES[file.name]:
            raise DataError(f"{file} is not the known file: its sha-256 differs", _HINT)
        return gzip.decompress(packed)


def _pair(images: bytes, labels: bytes, name: str) -> Part:
    pixels, numbers = parse_idx(images, 3, f"{name} images"), parse_idx(labels, 1, f"{name} labels")
    if len(pixels) != len(numbers):
        raise DataError(f"{name} has {len(pixels)} images and {len(numbers)} labels", _HINT)
    return pixels, numbers


def _from_hub() -> tuple[Part, Part]:
    """Return both parts from flwr-datasets, after a check of the decoded arrays' digests."""
    try:
        _check_reachable()
        with quiet():
            from flwr_datasets import FederatedDataset

            federated = FederatedDataset(dataset=HUB, partitioners={}, shuffle=False)
            train, test = (_decoded(federated.load_split(name)) for name in DECODED)
    except Exception as fault:  # no network, no package, a changed layout: one hint fits all
        what = f"fashion-mnist is not on this machine and cannot be fetched ({type(fault).__name__})"
        raise DataError(what, f"{_HINT}; if the hub's copy is cached here, set HF_HUB_OFFLINE=1") from fault
    _check_digest(train, "train")
    _check_digest(test, "test")
    return train, test


def _check_reachable() -> None:
    """Fail fast if the hub does not answer, because its client retries for half a minute; skip with a proxy or
    offline.

    Raises: OSError if the hub does not answer.
    """
    if os.environ.get("HF_HUB_OFFLINE") or getproxies():
        return
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    socket.create_connection((hub.hostname or "", hub.port or 443), timeout=10).close()


def _decoded(split) -> Part:
    """Return pixels and labels of one split of the hub's copy."""
    pixels = np.stack([np.asarray(image, dtype=np.uint8) for image in split["image"]])
    return pixels, np.asarray(split["label"][:], dtype=np.uint8)


def _check_digest(part: Part, name: str) -> None:
    digest = hashlib.sha256(part[0].tobytes() + part[1].tobytes()).hexdigest()
    if digest != DECODED[name]:
        raise DataError(f"the hub's {name} part of fashion-mnist is not the known one", _HINT)


def _table(part: Part) -> Table:
    features = part[0][:, np.newaxis].astype(np.float32)
    features /= 255
    return Table(features, part[1].astype(np.int64))


DATASET = Dataset(
    "fashion-mnist", lambda data: load(path_of(data)), "70,000 pictures of clothes in 10 classes", (1, 28, 28), 10
)
