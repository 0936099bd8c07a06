"""Data sets by name: those that come with bract and those of installed packages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_table import data_table

from bract.simulations import datasets
from bract.simulations.datasets import dataset

READER = """
import numpy as np
from bract.simulations.datasets import Dataset, Source, Table

def load(data):
    y = np.arange(12) % data.classes
    x = np.repeat(y[:, None], data.shape[0], axis=1).astype(np.float32)
    return Source(Table(x, y.astype(np.int64), clients=np.arange(12) % 3), None)

DATASET = Dataset("stairs", load, "steps of a stair", shape=(4,), classes=3)
"""


@pytest.fixture
def install(monkeypatch, tmp_path):
    """A function: install a package whose module has this text and whose entry points are these lines."""

    def put(package, text, *offers):
        (tmp_path / f"{package}.py").write_text(text)
        about = tmp_path / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("\n".join(["[bract.datasets]", *offers]) + "\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, package, raising=False)

    return put


def test_loads_by_name():
    assert len(datasets.load(data_table("digits", None, (1, 28, 28), 10)).train) == 1797


def test_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)), y=np.array([0, 1]))
    assert len(datasets.load(data_table("files", "~/d.npz", (3,), 2)).train) == 2


def test_unknown_name(refused):
    refused(
        lambda: datasets.load(data_table("mnist", None, (1, 28, 28), 10)),
        "there is no data set 'mnist'",
        "chat, diabetes, digits, fashion-mnist, files, shakespeare",
    )


def test_each_shipped_file_is_a_data_set_by_name():
    """A file in the folder is enough: no table lists the data sets."""
    folder = Path(dataset.shipped.__path__[0])
    files = {path.stem.replace("_", "-") for path in folder.glob("[a-z]*.py")}
    assert files == set(dataset._shipped())
    assert files <= set(datasets.names())
    for name in files:
        assert datasets.find_dataset(name).summary


def test_an_installed_package_adds_a_data_set(install):
    install("stairs_of_mine", READER, "stairs = stairs_of_mine:DATASET")
    assert "stairs" in datasets.names()
    assert "stairs_of_mine" not in sys.modules  # the list of names imports nothing
    source = datasets.load(data_table("stairs", None, (4,), 3))
    assert source.train.features.shape == (12, 4)
    assert source.train.clients is not None
    assert datasets.find_dataset("stairs").classes == 3


def test_a_simulation_trains_on_an_installed_data_set(install, tmp_path):
    from bract.simulations.run import simulate
    from bract.simulations.study import make_study

    install("stairs_of_mine", READER, "stairs = stairs_of_mine:DATASET")
    study = make_study(
        {
            "data": {"name": "stairs", "shape": [4], "classes": 3, "clients": 2, "records": 8},
            "model": {"name": "logistic"},
            "training": {"batch_size": 4},
            "cohort": {"rounds": 1, "size": 2},
            "privacy": {"sampling_rate": 0.5, "delta": 0.01},
            "simulation": {"seed": 1},
        }
    )
    assert simulate(study, tmp_path / "run").records == 8


def test_a_package_that_offers_no_data_set_is_refused(install, refused):
    install("odd", "DATASET = 1", "odd = odd:DATASET", "gone = odd:NOTHING")
    refused(lambda: datasets.find_dataset("odd"), "odd:DATASET of odd is not a Dataset", "Dataset('odd', load)")
    refused(lambda: datasets.find_dataset("gone"), "'gone' of odd cannot be imported (AttributeError", "import odd")


def test_a_shipped_name_is_never_taken_over(install, refused):
    install("thief", "raise SystemExit('imported')", "digits = thief:DATASET")
    refused(lambda: datasets.find_dataset("digits"), "bract and thief each offer a data set 'digits'", "uninstall")


def test_other_shape_and_classes(refused):
    flat, few = data_table("digits", None, (784,), 10), data_table("digits", None, (1, 28, 28), 9)
    refused(lambda: datasets.load(flat), "the plan says [784]", "data.shape = [1, 28, 28]")
    refused(lambda: datasets.load(few), "digits has 10 classes", "data.classes = 10")


def test_import_is_light():
    """Importing the data sets adds none of the heavy packages to what its parent packages import."""
    code = """
import sys, numpy, bract.models, bract.privacy.plan.schema, bract.simulations
before = set(sys.modules)
import bract.simulations.datasets
bract.simulations.datasets.names()
added = {"sklearn", "pandas", "PIL", "datasets", "flwr_datasets", "torch"} & (set(sys.modules) - before)
sys.exit(", ".join(added) or None)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_to_predict_are_not_taken_for_classes(refused, tmp_path):
    """Classes that pandas or NumPy turned into floats would become numbers to predict."""
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)), y=np.array([0.0, 1.0]))
    classes, numbers = (data_table("files", tmp_path / "d.npz", (3,), count) for count in (2, 1))
    refused(lambda: datasets.load(classes), "holds numbers to predict", "as whole numbers")
    assert datasets.load(numbers).train.has_numbers
