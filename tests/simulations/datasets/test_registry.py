import subprocess
import sys

import numpy as np

from bract.simulations import datasets


def test_loads_by_name():
    assert len(datasets.load("digits", None, (1, 28, 28), 10).train) == 1797


def test_shape_may_be_a_list():
    assert len(datasets.load("digits", None, [1, 28, 28], 10).train) == 1797


def test_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)), y=np.array([0, 1]))
    assert len(datasets.load("files", "~/d.npz", (3,), 2).train) == 2


def test_unknown_name(refused):
    refused(
        lambda: datasets.load("mnist", None, (1, 28, 28), 10),
        "there is no data set 'mnist'",
        "diabetes, digits, fashion-mnist, files, shakespeare, chat",
    )


def test_other_shape_and_classes(refused):
    refused(lambda: datasets.load("digits", None, (784,), 10), "the plan says [784]", "data.shape = [1, 28, 28]")
    refused(lambda: datasets.load("digits", None, (1, 28, 28), 9), "digits has 10 classes", "data.classes = 10")


def test_import_is_light():
    """Importing the data sets adds none of the heavy packages to what its parent packages import."""
    code = """
import sys, numpy, bract.privacy.errors, bract.simulations
before = set(sys.modules)
import bract.simulations.datasets
added = {"sklearn", "pandas", "PIL", "datasets", "flwr_datasets", "torch"} & (set(sys.modules) - before)
sys.exit(", ".join(added) or None)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_to_predict_are_not_taken_for_classes(refused, tmp_path):
    """Classes that pandas or NumPy made floats of would be told as numbers."""
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)), y=np.array([0.0, 1.0]))
    refused(
        lambda: datasets.load("files", tmp_path / "d.npz", (3,), 2), "holds numbers to predict", "as whole numbers"
    )
    assert datasets.load("files", tmp_path / "d.npz", (3,), 1).train.has_numbers
