"""A trained model predicts, is measured, compared and exported as its own network says; bad input changes nothing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bract.cli.main import run
from bract.models import build
from bract.privacy import BractError, DataError, PlanError, StateError
from bract.simulations.study import Study
from bract.simulations.trained import export as export_module
from bract.simulations.trained.compare import compare
from bract.simulations.trained.evaluate import evaluate
from bract.simulations.trained.export import export
from bract.simulations.trained.listing import list_all
from bract.simulations.trained.predict import predict
from bract.simulations.trained.records import read_features, read_labelled
from bract.simulations.trained.run import Trained, read_trained


def by_hand(folder: Path, x: np.ndarray) -> np.ndarray:
    """Probabilities from the file's tensors, without any of the code that is tested."""
    network = build("cnn", (1, 12, 12), 3)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.no_grad():
        return network(torch.from_numpy(x)).softmax(-1).numpy()


def test_predictions_are_those_of_the_networks_tensors(trained: Path, fresh: Path) -> None:
    model = read_trained(trained)
    found = predict(model, read_features(fresh, model.plan))
    wanted = by_hand(trained, np.load(fresh)["x"])
    assert found.probabilities == pytest.approx(wanted, abs=1e-6)
    assert found.labels == [str(number) for number in wanted.argmax(-1)]


def test_the_file_of_predictions_has_a_line_for_each_record(trained: Path, fresh: Path, tmp_path: Path) -> None:
    out = tmp_path / "predicted.csv"
    assert run(["predict", str(trained), str(fresh), "-o", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    wanted = by_hand(trained, np.load(fresh)["x"])
    assert list(rows[0]) == ["predicted", "probability", "p(0)", "p(1)", "p(2)"]
    assert [int(row["predicted"]) for row in rows] == wanted.argmax(-1).tolist()
    assert [float(row["p(2)"]) for row in rows] == pytest.approx(wanted[:, 2].tolist(), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_predicts_as_its_array_with_or_without_labels(trained: Path, tmp_path: Path, suffix: str) -> None:
    import pandas as pd

    x = np.random.default_rng(2).normal(size=(4, 144)).astype(np.float32)
    frame = pd.DataFrame(x, columns=[f"pixel{number}" for number in range(144)])
    model, found = read_trained(trained), []
    for name, table in (("bare", frame), ("labelled", frame.assign(label=1, client="a"))):
        path = tmp_path / f"{name}{suffix}"
        table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path, index=False)
        found.append(predict(model, read_features(path, model.plan)).probabilities)
    assert found[0] == pytest.approx(by_hand(trained, x.reshape(4, 1, 12, 12)), abs=1e-6)
    assert np.array_equal(found[0], found[1])


def test_pictures_predict_in_the_order_of_their_names(trained: Path, tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(3).integers(0, 256, size=(2, 12, 12), dtype=np.uint8)
    for name, picture in zip(("b.png", "a.png"), pixels, strict=True):
        Image.fromarray(picture).save(tmp_path / name)
    model = read_trained(trained)
    found = predict(model, read_features(tmp_path, model.plan)).probabilities
    wanted = by_hand(trained, (pixels[::-1, None] / np.float32(255)).astype(np.float32))
    assert found == pytest.approx(wanted, abs=1e-6)
    assert predict(model, read_features(tmp_path / "a.png", model.plan)).probabilities == pytest.approx(wanted[:1])


def test_an_evaluation_counts_what_the_network_predicts(trained: Path, fresh: Path) -> None:
    model, data = read_trained(trained), np.load(fresh)
    found = evaluate(model, read_labelled(fresh, model.plan))
    chances = by_hand(trained, data["x"])
    guesses = chances.argmax(-1)
    wanted = [[int(((data["y"] == i) & (guesses == j)).sum()) for j in range(3)] for i in range(3)]
    assert [list(row) for row in found.confusion] == wanted
    assert found.figures["accuracy"] == pytest.approx((guesses == data["y"]).mean())
    assert found.classes[1].recall == pytest.approx(wanted[1][1] / sum(wanted[1]))
    assert found.classes[1].records == 10
    assert [client.records for client in found.clients] == [5] * 6
    right = [float((guesses == data["y"])[data["client"] == client].mean()) for client in range(6)]
    assert [client.value for client in found.clients] == pytest.approx(right)
    assert sum(part.records for part in found.calibration) == 30


def test_the_calibration_error_weighs_intervals_by_their_records(trained: Path, fresh: Path) -> None:
    model, data = read_trained(trained), np.load(fresh)
    found = evaluate(model, read_labelled(fresh, model.plan))
    chances = by_hand(trained, data["x"]).astype(np.float64)
    sure, right = chances.max(-1), chances.argmax(-1) == data["y"]
    bins = np.minimum((sure * 10).astype(int), 9)
    wanted = sum(abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).sum() for b in set(bins)) / 30
    assert found.calibration_error == pytest.approx(wanted, abs=1e-6)


def test_evaluate_prints_json_and_writes_a_page(
    trained: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run(["evaluate", str(trained), str(fresh), "--json", "--html", str(page)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["records"] == 30
    assert len(said["confusion"]) == 3
    text = page.read_text()
    assert all(heading in text for heading in ("By class", "Confused classes", "Calibration", "By client"))
    assert str(tmp_path) not in text
    assert run(["evaluate", str(trained), str(fresh)]) == 0
    assert "confused with" in capsys.readouterr().out


def test_runs_are_compared_by_quality_cost_and_differing_keys(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    plan = trained.parent / "plan.toml"
    assert run(["simulate", str(plan), "--set", "cohort.rounds=1", "--seed", "1", "--out", str(other)]) == 0
    found = compare([trained, other])
    head, first, second = found.table()
    assert "cohort.rounds" in head
    assert "data.shape" not in head
    assert (first[head.index("cohort.rounds")], second[head.index("cohort.rounds")]) == ("20", "1")
    assert first[3] == second[3] == "none"
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    assert first[2] == f"{last['epsilon']['released']:.3f}"
    assert run(["compare", str(trained), str(other), "--json"]) == 0


def test_listing_and_comparing_runs_imports_no_module(trained: Path, tmp_path: Path) -> None:
    """The folder of a run may come from somebody else: to look at it must not run its code."""
    folder = tmp_path / "given"
    shutil.copytree(trained, folder)
    file = folder / "model.safetensors"
    with safe_open(file, "pt") as read:
        facts = json.loads(read.metadata()["bract"])
    facts["plan"]["model"]["name"] = "trap_in_a_run:build"
    save_file(load_file(file), file, {"bract": json.dumps(facts)})
    (folder / "trap_in_a_run.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    plan = (folder / "plan.toml").read_text()
    (folder / "plan.toml").write_text(plan.replace("[simulation]", f"[simulation]\nmodules = {str(folder)!r}"))
    assert run(["list", "runs", "--folder", str(tmp_path)]) == 0
    assert run(["compare", str(folder), str(folder)]) == 0
    assert not (tmp_path / "ran").exists()
    with pytest.raises(BractError):
        read_trained(folder)
    assert (tmp_path / "ran").exists()


def test_the_list_names_what_ships_and_the_runs(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = list_all(trained.parent)
    assert "digits-central-eps8" in found["plans"]
    assert found["networks"]["gru-lm"] == "next token"
    assert "files" in found["data"]
    assert "csv" in found["loggers"]
    assert "cnn on files, accuracy" in found["runs"][str(trained)]
    assert run(["list", "runs", "--folder", str(trained.parent)]) == 0
    assert str(trained) in capsys.readouterr().out


def test_an_exported_program_answers_as_the_model(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    assert run(["export", str(trained), "--torch", str(out)]) == 0
    program, x = torch.export.load(out).module(), np.random.default_rng(4).normal(size=(7, 1, 12, 12))
    features = torch.from_numpy(x.astype(np.float32))
    assert program(features).detach().numpy() == pytest.approx(by_hand(trained, features.numpy()), abs=1e-6)
    facts = {"bract.json": ""}
    torch.export.load(out, extra_files=facts)
    assert json.loads(facts["bract.json"])["classes"] == ["0", "1", "2"]


def test_an_export_that_disagrees_is_not_kept(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sabotage: the exported file answers a little more than the model."""
    honest = export_module._WRITE["torch"]

    def wrong(*asked: object) -> object:
        load = honest(*asked)  # pyright: ignore[reportArgumentType]
        return lambda features: load(features) + 1e-3

    monkeypatch.setitem(export_module._WRITE, "torch", wrong)
    with pytest.raises(StateError, match="does not agree with the model over 1 records"):
        export(read_trained(trained), tmp_path / "model.pt2", "torch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("attention", (20,)),
        ("attention", (28, 28)),
        ("autoencoder", (1, 28, 28)),
        ("cnn-large", (1, 28, 28)),
        ("gru-lm", (20,)),
        ("linear", (12,)),
        ("logistic", (12,)),
        ("lstm", (28, 28)),
        ("mlp", (12,)),
        ("ngram", (20,)),
        ("ngram-client", (20,)),
        ("rnn", (28, 28)),
    ],
)
def test_every_network_that_predicts_exports(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    classes = 1 if name == "linear" else 10
    tables = {"data": {"shape": shape, "classes": classes}, "model": {"name": name}}
    plan = Study.model_validate(tables, strict=False)
    model = Trained(tmp_path / "model.safetensors", plan, 1, build(name, shape, classes, 0).eval())
    export(model, tmp_path / "model.pt2", "torch")
    assert (tmp_path / "model.pt2").exists()


@pytest.mark.full
def test_a_model_exports_to_onnx_where_its_packages_are(trained: Path, tmp_path: Path) -> None:
    """Without them the error names the one that is missing."""
    out = tmp_path / "model.onnx"
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        with pytest.raises(PlanError, match="the package onnx is not installed"):
            export(read_trained(trained), out, "onnx")
        assert list(tmp_path.iterdir()) == []
        return
    export(read_trained(trained), out, "onnx")
    x = np.random.default_rng(5).normal(size=(3, 1, 12, 12)).astype(np.float32)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert session.run(None, {"features": x})[0] == pytest.approx(by_hand(trained, x), abs=1e-5)


def test_a_file_with_another_shape_is_refused(trained: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", x=np.zeros((3, 5), np.float32))
    with pytest.raises(DataError, match="a record has 5 values"):
        read_features(tmp_path / "odd.npz", read_trained(trained).plan)


def test_a_folder_without_all_labels_is_not_numbered_wrongly(trained: Path, tmp_path: Path) -> None:
    """Labels are numbered in their order: without one of them, the others would get other numbers."""
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.fromarray(np.zeros((12, 12), np.uint8)).save(tmp_path / "photos" / label / "one.png")
    with pytest.raises(DataError, match="has 2 of the 3 labels"):
        read_labelled(tmp_path / "photos", read_trained(trained).plan)


@pytest.mark.parametrize("damage", ["text", "cut", "foreign", "tensors"])
def test_a_damaged_model_is_refused_by_name(trained: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(trained, tmp_path / "run")
    file = tmp_path / "run" / "model.safetensors"
    if damage == "text":
        file.write_text("no model")
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "foreign":
        save_file({"weight": torch.zeros(3)}, file)
    else:
        from safetensors import safe_open

        with safe_open(file, "pt") as kept:
            facts = kept.metadata()
        save_file({"weight": torch.zeros(3)}, file, metadata=facts)
    with pytest.raises(BractError, match=r"model\.safetensors"):
        read_trained(tmp_path / "run")


def test_bad_input_is_refused_and_nothing_is_overwritten(
    trained: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    for suffix in (".csv", ".html", ".pt2", ".onnx"):
        kept.with_suffix(suffix).write_text("mine")
    bad = [
        ["predict", tmp_path / "none", fresh],
        ["predict", trained, tmp_path / "none.csv"],
        ["predict", trained, fresh, "-o", kept.with_suffix(".csv")],
        ["predict", trained, fresh, "-o", tmp_path / "out.txt"],
        ["predict", trained, kept.with_suffix(".csv")],
        ["evaluate", trained, fresh, "--html", kept.with_suffix(".html")],
        ["evaluate", trained, fresh, "--html", tmp_path / "out.pdf"],
        ["evaluate", trained, tmp_path / "none.npz"],
        ["export", trained],
        ["export", trained, "--torch", kept.with_suffix(".pt2")],
        ["export", trained, "--torch", tmp_path / "model.bin"],
        ["export", trained, "--torch", tmp_path / "none" / "model.pt2"],
        ["export", trained, "--onnx", kept.with_suffix(".onnx")],
        ["compare", trained, tmp_path],
        ["list", "plots"],
    ]
    before = {path: path.read_bytes() for path in sorted(tmp_path.iterdir())}
    for words in bad:
        capsys.readouterr()
        assert run([str(word) for word in words]) != 0, words
        said = capsys.readouterr()
        assert [line.split(": ")[0] for line in said.err.strip().splitlines()] == ["error", "hint"], (words, said.err)
    assert {path: path.read_bytes() for path in sorted(tmp_path.iterdir())} == before


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_columns_that_count_in_their_order_are_told(
    verb: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan of this run has no names of features, so a table in another order would be another table."""
    header = ",".join([*(f"p{number}" for number in range(144)), "label"])
    rows = ["0.5," * 144 + str(label) for label in range(3)]
    (tmp_path / "table.csv").write_text("\n".join([header, *rows]))
    assert run([verb, str(trained), str(tmp_path / "table.csv")]) == 0
    assert "count in their order" in capsys.readouterr().err


def test_one_run_is_compared_with_nothing(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(trained)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
