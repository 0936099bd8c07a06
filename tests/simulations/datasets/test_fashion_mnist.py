"""Fashion-MNIST: where it is found, and what is in it."""

import shutil
import struct

import numpy as np
import pytest

from bract.simulations.datasets.shipped import fashion_mnist

needs_debian = pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="apt install dataset-fashion-mnist")


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


class Split:
    """As much of a datasets.Dataset as the reader uses."""

    def __init__(self, part):
        self.columns = {"image": part[0], "label": part[1].tolist()}

    def __getitem__(self, name):
        return self.columns[name]


@pytest.fixture
def hub(monkeypatch):
    """A function that puts these parts, or this exception, on a made-up hub."""
    import flwr_datasets

    def put(parts):
        class Federated:
            def __init__(self, **options):
                assert options["dataset"] == "zalando-datasets/fashion_mnist"
                assert options["shuffle"] is False

            def load_split(self, name):
                if isinstance(parts, Exception):
                    raise parts
                return Split(parts[name])

        monkeypatch.setattr(flwr_datasets, "FederatedDataset", Federated)

    return put


@needs_debian
def test_whole_set_from_debian():
    source = fashion_mnist.load(None)
    for table, size in ((source.train, 6000), (source.test, 1000)):
        assert table.features.shape == (10 * size, 1, 28, 28)
        assert np.bincount(table.labels).tolist() == [size] * 10
        assert table.features.min() == 0
        assert table.features.max() == 1
        assert table.clients is None
    assert source.train.labels[:5].tolist() == [9, 0, 0, 3, 0]
    # The mean and deviation that the literature normalizes by.
    assert source.train.features.mean(dtype=float) == pytest.approx(0.2860, abs=1e-4)
    assert source.train.features.std(dtype=float) == pytest.approx(0.3530, abs=1e-4)


@needs_debian
def test_second_call_reads_no_file_and_shares_nothing(monkeypatch):
    first = fashion_mnist.load(fashion_mnist.DEBIAN)
    monkeypatch.setattr(fashion_mnist, "_checked", None)
    second = fashion_mnist.load(fashion_mnist.DEBIAN)
    first.test.features[:] = 0.5
    assert second.test.features.mean() < 0.4


@needs_debian
def test_environment_variable_comes_before_debian(monkeypatch, tmp_path, refused):
    (tmp_path / "fashion-mnist").mkdir()
    monkeypatch.setenv("BRACT_DATA", str(tmp_path))
    refused(lambda: fashion_mnist.load(None), f"{tmp_path / 'fashion-mnist'} has no file", "apt install")
    (tmp_path / "fashion-mnist").rmdir()
    assert len(fashion_mnist.load(None).test) == 10_000


def test_missing_folder_and_file(tmp_path, refused):
    refused(lambda: fashion_mnist.load(tmp_path / "no"), "has no file train-images", "apt install dataset-")
    refused(lambda: fashion_mnist.load(tmp_path), "has no file train-images-idx3-ubyte.gz", "data.path")


@needs_debian
def test_wrong_checksum(tmp_path, refused):
    for name in fashion_mnist.FILES:
        shutil.copy(fashion_mnist.DEBIAN / name, tmp_path / name)
    changed = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(changed.read_bytes())
    content[100] ^= 1
    changed.write_bytes(content)
    refused(lambda: fashion_mnist.load(tmp_path), f"{changed} is not the known file", "apt install")


def test_idx_round_trip():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(fashion_mnist.parse_idx(idx(array), 3, "x"), array)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "not an IDX file of 1 dimensions"),
        (b"\0\0\x08\x01\0\0\0", "not an IDX file"),
        (b"\0\0\x08\x03" + bytes(12), "not an IDX file"),
        (b"\0\0\x0d\x01" + bytes(4), "not an IDX file"),
        (idx(np.zeros(5, np.uint8))[:-1], "announces 5 values and holds 4"),
        (idx(np.zeros(5, np.uint8)) + b"x", "announces 5 values and holds 6"),
        (b"\0\0\x08\x01\xff\xff\xff\xff", "announces 4294967295 values and holds 0"),
    ],
)
def test_idx_faults(refused, payload, what):
    refused(lambda: fashion_mnist.parse_idx(payload, 1, "labels"), what, "apt install")


def test_idx_sizes_do_not_overflow(refused):
    payload = b"\0\0\x08\x03" + b"\xff" * 12
    refused(lambda: fashion_mnist.parse_idx(payload, 3, "images"), f"announces {(2**32 - 1) ** 3}", "apt")


@needs_debian
def test_hub_copy_is_accepted_when_its_pixels_are_the_known_ones(hub):
    train, test = fashion_mnist._parts(fashion_mnist.DEBIAN)
    hub({"train": train, "test": test})
    fetched = fashion_mnist._from_hub()
    assert np.array_equal(fetched[0][0], train[0])
    assert np.array_equal(fetched[1][1], test[1])


@needs_debian
def test_hub_copy_with_one_other_label_is_refused(hub, refused):
    train, (pixels, labels) = fashion_mnist._parts(fashion_mnist.DEBIAN)
    labels = labels.copy()
    labels[0] += 1
    hub({"train": train, "test": (pixels, labels)})
    refused(fashion_mnist._from_hub, "the hub's test part of fashion-mnist is not the known one", "apt")


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "none")
    fashion_mnist._parts.cache_clear()
    yield
    fashion_mnist._parts.cache_clear()


def test_fetch_without_network(nothing_here, hub, refused):
    hub(ConnectionError("no route"))
    hint = "apt install dataset-fashion-mnist, or set data.path"
    refused(lambda: fashion_mnist.load(None), "cannot be fetched (ConnectionError)", hint)


def test_unreachable_hub_is_not_waited_for(nothing_here, monkeypatch, refused):
    for name in ("HF_HUB_OFFLINE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fashion_mnist, "getproxies", dict)
    refused(lambda: fashion_mnist.load(None), "cannot be fetched (OSError)", "data.path")


def test_telemetry_is_off(nothing_here, hub, refused):
    from flwr_datasets.common import telemetry

    telemetry.FLWR_TELEMETRY_ENABLED = "1"
    hub(ConnectionError())
    refused(lambda: fashion_mnist.load(None), "cannot be fetched", "apt")
    assert telemetry.FLWR_TELEMETRY_ENABLED == "0"
