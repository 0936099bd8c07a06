"""A plan names the columns of a table and their transforms; a simulation, its shards and its devices agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bract.client.records import Sheet, fitting, read_records
from bract.models.tables import read_cut
from bract.privacy.plan.schema import Column, Data
from bract.simulations.datasets.shipped import files
from bract.simulations.datasets.tabular import load_features
from bract.simulations.population import make_population
from bract.simulations.shards import write_shards
from bract.simulations.study import make_study

CPU = torch.device("cpu")
HEART = """hospital,age,sex,note,dose,ill
A,20,m,x,1,no
B,80,f,y,2,yes
A,?,f,z,3,yes
B,50,m,,4,no
"""
NAMED = {
    "name": "files",
    "shape": [4],
    "classes": 2,
    "label": "ill",
    "client": "hospital",
    "ignore": ["note"],
    "labels": ["no", "yes"],
    "columns": {"age": {"scale": [20, 80], "fill": 50}, "sex": {"values": ["m", "f"]}},
}


@pytest.fixture
def heart(tmp_path):
    """A function: the table [data] of a plan for the file, with these changes."""
    (tmp_path / "d.csv").write_text(HEART)

    def data(**changes) -> Data:
        tables = NAMED | {"path": str(tmp_path / "d.csv")} | changes
        return Data.model_validate({key: value for key, value in tables.items() if value is not None})

    return data


def load(data: Data):
    return files.load(files.path_of(data), data)


def test_columns_are_named_and_transformed(heart) -> None:
    table = load(heart()).train
    assert table.features.tolist() == [[-1, 1, 0, 1], [1, 0, 1, 2], [0, 0, 1, 3], [0, 1, 0, 4]]
    assert table.labels.tolist() == [0, 1, 1, 0]
    assert table.clients.tolist() == [0, 1, 0, 1]


def test_the_features_stand_in_the_order_of_the_plan(heart) -> None:
    data = heart(ignore=None, features=["dose", "age"], shape=[2], columns={"age": NAMED["columns"]["age"]})
    assert load(data).train.features.tolist() == [[1, -1], [2, 1], [3, 0], [4, 0]]


def test_parquet_and_csv_become_the_same(heart, tmp_path) -> None:
    import pandas as pd

    pd.read_csv(tmp_path / "d.csv", na_values="?").to_parquet(tmp_path / "d.parquet")
    one, two = load(heart()).train, load(heart(path=str(tmp_path / "d.parquet"))).train
    assert np.array_equal(one.features, two.features)
    assert np.array_equal(one.labels, two.labels)


@pytest.mark.parametrize(
    ("changes", "what", "hint"),
    [
        (
            {"label": None},
            "has no column 'label'; it has 'hospital', 'age', 'sex', 'note', 'dose', 'ill'",
            "data.label",
        ),
        ({"label": "sick"}, "no column 'sick', which data.label names", "its columns are hospital, age"),
        ({"client": "ward"}, "no column 'ward', which data.client", "hospital"),
        ({"ignore": ["remark"]}, "no column 'remark', which data.ignore", "hospital"),
        ({"columns": NAMED["columns"] | {"sx": {"fill": 1}}}, "no column 'sx', which data.columns names", "hospital"),
        ({"labels": ["no", "maybe"]}, "column 'ill', row 2 of d.csv is none of data.labels", "list every class"),
        ({"columns": {"sex": NAMED["columns"]["sex"]}}, "'age', row 3", "values or a fill in data.columns"),
        (
            {"columns": NAMED["columns"] | {"sex": {"values": ["m", "w"]}}},
            "column 'sex', row 2 of d.csv is missing or none of its values",
            "add the word to the values of 'sex'",
        ),
        (
            {"columns": NAMED["columns"] | {"age": {"scale": [20, 80]}}},
            "column 'age', row 3 of d.csv is missing or not a finite number",
            "set the fill of 'age'",
        ),
        ({"ignore": None}, "column 'note', row 1", "data.columns"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(heart, refused, changes, what, hint) -> None:
    refused(lambda: load(heart(**changes)), what, hint)


def test_a_label_beside_the_named_one_is_no_feature(heart, refused, tmp_path) -> None:
    (tmp_path / "d.csv").write_text("a,label,ill\n1,0,no\n2,1,yes\n")
    data = heart(client=None, ignore=None, columns=None, shape=[1])
    refused(lambda: load(data), "has also a column 'label'", "data.ignore")
    assert load(heart(client=None, ignore=["label"], columns=None, shape=[1])).train.labels.tolist() == [0, 1]


def test_numbers_to_predict_are_scaled_by_the_plan(heart) -> None:
    changes = {"label": "dose", "labels": None, "classes": 1, "features": ["age"], "ignore": None, "shape": [1]}
    data = heart(**changes, columns={"age": NAMED["columns"]["age"], "dose": {"standardize": [2, 2]}})
    assert load(data).train.labels.tolist() == [-0.5, 0, 0.5, 1]


def test_pictures_and_arrays_take_one_rule_for_all_numbers(tmp_path, refused) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([[0.0, 20.0], [10.0, 5.0]]), y=np.array([0, 1]))
    every = Data(path=str(tmp_path / "d.npz"), shape=(2,), classes=2, columns={"*": Column(scale=(0, 20))})
    assert load(every).train.features.tolist() == [[-1, 1], [0, -0.5]]
    named = every.model_copy(update={"columns": {"age": Column(scale=(0, 20))}})
    refused(lambda: load(named), "names columns of a table", 'one entry "*"')


def study(data: Data):
    return make_study(
        {
            "data": data.model_dump(exclude_none=True) | {"clients": 2, "split": "iid", "holdout": 0.5},
            "model": {"name": "logistic"},
            "cohort": {"rounds": 1, "size": 2},
            "training": {"batch_size": 2},
            "privacy": {"sampling_rate": 0.5, "delta": 0.01, "allow_large_delta": True},
            "simulation": {"seed": 1},
        }
    )


def test_a_shard_says_which_transforms_it_went_through(heart, tmp_path) -> None:
    """A device takes the shard as it is, once: the same records as in the simulation."""
    plan = study(heart())
    write_shards(plan, tmp_path / "shards")
    simulated = make_population(plan, CPU)
    for number in range(2):
        read = read_records(tmp_path / "shards" / f"client-{number:03d}.npz", CPU)
        assert read.transforms == plan.data.transforms
        assert torch.equal(fitting(read, plan).features, simulated.client(number).features)
        assert torch.equal(fitting(simulated.client(number), plan).features, simulated.client(number).features)


def test_a_device_and_a_simulation_see_the_same_numbers(heart, tmp_path) -> None:
    data = heart(ignore=None, features=["age", "sex", "dose"])
    records = fitting(Sheet(read_cut(tmp_path / "d.csv"), CPU), study(data))
    table = load(data).train
    assert np.array_equal(records.features.numpy(), table.features)
    assert records.labels.tolist() == table.labels.tolist()


def test_features_alone_are_those_of_the_training(heart, tmp_path, refused) -> None:
    """A file to predict has no label; its columns stand in any order."""
    data = heart(ignore=None, features=["age", "sex", "dose"])
    (tmp_path / "new.csv").write_text("dose,sex,age\n1,m,20\n2,f,80\n3,f,\n")
    assert np.array_equal(load_features(tmp_path / "new.csv", data), load(data).train.features[:3])
    (tmp_path / "new.csv").write_text("dose,age\n1,20\n")
    refused(lambda: load_features(tmp_path / "new.csv", data), "no column 'sex'", "its columns are dose, age")
