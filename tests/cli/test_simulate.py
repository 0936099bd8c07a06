"""`bract simulate` as a person types it: what it writes, what it prints, and how it says no."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bract.cli.main import run

KEYS = ["rounds", "accuracy", "loss", "figures", "epsilon", "delta", "unit", "noise", "clients", "records"]
KEYS += ["seconds", "updates_per_second", "peak_rss_bytes", "out"]


def refused(capsys: pytest.CaptureFixture[str], arguments: list[object], code: int) -> str:
    """Run a command that must be refused: two lines on stderr, nothing on stdout, this exit code."""
    assert run([str(word) for word in arguments]) == code
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert said.out == ""
    assert [line.split(": ")[0] for line in lines] == ["error", "hint"], said.err
    return lines[0]


def test_a_run_writes_all_that_it_promises(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(["simulate", str(tiny_plan), "--out", str(out), "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert list(result) == KEYS
    assert result["rounds"] == 3
    assert result["epsilon"]["server"] is None
    assert 7.9 < result["epsilon"]["released"] <= 8.0
    assert (result["clients"], result["records"]) == (5, 50)
    assert {path.name for path in out.iterdir()} == {
        "plan.toml",
        "metrics.jsonl",
        "ledger.jsonl",
        "checkpoint.bract",
        "model.safetensors",
        "model.md",
        "report.html",
    }
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3


def test_quiet_prints_the_summary_alone(tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", str(tiny_plan), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "none: the server is trusted, to the server" in said.out
    assert "report.html" in said.out


def test_local_noise_is_a_guarantee_against_the_server_too(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "privacy.noise=local", "--set", "training.local_steps=2", "--json"]
    assert run(["simulate", str(tiny_plan), "--out", str(tmp_path / "run"), *settings]) == 0
    epsilon = json.loads(capsys.readouterr().out)["epsilon"]
    assert epsilon["server"] == epsilon["released"]
    assert 7.9 < epsilon["server"] <= 8.0


def plan_of(tiny_plan: Path, noise: str) -> str:
    """The tiny plan with its noise elsewhere, as a file of its own."""
    path = tiny_plan.with_name(f"{noise}.toml")
    table = '[aggregation]\nprotocol = "secagg"\n\n[privacy]' if noise == "distributed" else "[privacy]"
    path.write_text(tiny_plan.read_text().replace("[privacy]", f'{table}\nnoise = "{noise}"'))
    return str(path)


@pytest.mark.parametrize("noise", ["central", "distributed", "local"])
def test_a_study_without_protection_says_so(
    noise: str, tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "privacy.unit=none", "--quiet"]
    assert run(["simulate", plan_of(tiny_plan, noise), "--out", str(tmp_path / "run"), *settings]) == 0
    assert capsys.readouterr().out.count("none: nothing is protected") == 2


@pytest.mark.parametrize("noise", ["central", "distributed", "local"])
def test_the_unit_can_be_the_client(
    noise: str, tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "privacy.unit=client", "--set", "privacy.sampling_rate=1", "--json"]
    assert run(["simulate", plan_of(tiny_plan, noise), "--out", str(tmp_path / "run"), *settings]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["unit"], result["noise"], result["rounds"]) == ("client", noise, 3)
    assert 0 < result["epsilon"]["released"] <= 8
    assert (result["epsilon"]["server"] is None) == (noise == "central")


def test_shared_noise_is_a_guarantee_against_the_server_too(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tiny_plan, "distributed")
    assert run(["simulate", plan, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "trusted" not in said
    epsilon = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["epsilon"]
    assert 0 < epsilon["released"] == epsilon["server"] < 8


def test_a_seed_repeats_a_run_and_no_seed_does_not(tiny_plan: Path, tmp_path: Path) -> None:
    def model(name: str, *extra: str) -> bytes:
        assert run(["simulate", str(tiny_plan), "--out", str(tmp_path / name), "--quiet", *extra]) == 0
        return (tmp_path / name / "model.safetensors").read_bytes()

    assert model("a", "--seed", "3") == model("b", "--seed", "3")
    assert model("c", "--seed", "4") != model("a2", "--seed", "3")
    tiny_plan.write_text(tiny_plan.read_text().replace("seed = 7", ""))
    assert model("d") != model("e")


def test_resuming_a_finished_run_changes_nothing(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(["simulate", str(tiny_plan), "--out", str(out), "--quiet"]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run(["simulate", "--resume", str(out), "--quiet"]) == 0
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert before == after


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["privacy.epsilon=0"], "privacy.epsilon"),
        (["privacy.epsilon=-1"], "privacy.epsilon"),
        (["privacy.epsilon=eight"], "privacy.epsilon"),
        (["cohort.sise=4"], "cohort.size"),
        (["privacy.noise=none"], "privacy.noise"),
        (["privacy.unit=person"], "privacy.unit"),
        (["privacy.noise_multiplier=0.5", "cohort.rounds=500"], "cost epsilon"),
        (["cohort.size=9"], "cohort.size is 9"),
        (["training.local_steps=2"], "local_steps"),
        (["privacy.noise=distributed"], "needs aggregation.protocol = secagg"),
        (["privacy.unit=client"], "privacy.sampling_rate is 0.5, unit = client takes 1"),
        (["model.name=resnet"], "no model resnet"),
        (["data.split=dirichlet"], "data.split"),
        (["data.clients=4", "cohort.size=4"], "clients"),
        (["data.classes=2"], "2"),
        (["nonsense"], "table.key=value"),
        (["privacy.epsilon=0", "cohort.sise=4", "training.engine=magic"], "3 faults"),
    ],
)
def test_a_bad_plan_is_refused_before_anything_is_written(
    settings: list[str], named: str, tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = [word for setting in settings for word in ("--set", setting)]
    assert named in refused(capsys, ["simulate", tiny_plan, "--out", out, *words], 2)
    assert not out.exists()


def test_a_missing_plan_or_data_file_is_refused(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no-such.toml" in refused(capsys, ["simulate", tmp_path / "no-such.toml"], 2)
    gone = ["--set", f"data.path={tmp_path}/gone.npz", "--out", tmp_path / "run"]
    assert "gone.npz" in refused(capsys, ["simulate", tiny_plan, *gone], 2)
    (tmp_path / "broken.toml").write_text("[data\n")
    assert "not toml" in refused(capsys, ["simulate", tmp_path / "broken.toml"], 2)


def test_a_folder_of_images_without_labels_is_refused(
    tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.zeros((12, 12), dtype=np.uint8)).save(images / "one.png")
    settings = ["--set", f"data.path={images}", "--out", tmp_path / "run"]
    assert "label" in refused(capsys, ["simulate", tiny_plan, *settings], 2)


def test_bad_options_are_refused_in_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--sede" in refused(capsys, ["simulate", "--sede", "1"], 2)
    refused(capsys, ["simulate", "--seed", "one"], 2)
    refused(capsys, ["simulat"], 2)
    assert "holds no run" in refused(capsys, ["simulate", "--resume", tmp_path], 2)
    refused(capsys, ["simulate", "--resume", tmp_path, "--seed", "1"], 2)


def test_a_run_is_never_written_over(tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run(["simulate", str(tiny_plan), "--out", str(out), "--quiet"]) == 0
    capsys.readouterr()
    assert "not empty" in refused(capsys, ["simulate", tiny_plan, "--out", out], 2)


@pytest.mark.parametrize("name", ["checkpoint.bract", "ledger.jsonl", "metrics.jsonl"])
def test_damaged_state_is_refused_and_left_as_it_is(
    name: str, tiny_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(["simulate", str(tiny_plan), "--out", str(out), "--quiet"]) == 0
    capsys.readouterr()
    content = bytearray((out / name).read_bytes())
    content[len(content) // 2] ^= 0x08
    (out / name).write_bytes(content)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert name in refused(capsys, ["simulate", "--resume", out], 4)
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_full_disk_at_any_write_loses_nothing(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every write of the run in turn finds the disk full; the resumed run ends like the one that had room."""
    whole = tmp_path / "whole"
    writes = 0
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        nonlocal writes
        writes += 1
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr("bract.privacy.storage.os.write", counted)
        assert run(["simulate", str(tiny_plan), "--out", str(whole), "--quiet"]) == 0
    capsys.readouterr()
    assert writes > 10
    for full in range(writes):
        out = tmp_path / f"full-{full}"
        refused_at(full, out, tiny_plan, monkeypatch, capsys)
        again = ["--resume", str(out)] if (out / "plan.toml").exists() else [str(tiny_plan), "--out", str(out)]
        assert run(["simulate", *again, "--quiet"]) == 0
        capsys.readouterr()
        for name in ("model.safetensors", "ledger.jsonl"):
            assert (out / name).read_bytes() == (whole / name).read_bytes()


def refused_at(
    full: int, out: Path, plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, calls = os.write, iter(range(10**6))

    def fails_once(descriptor: int, data: bytes) -> int:
        if next(calls) == full:
            write(descriptor, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr("bract.privacy.storage.os.write", fails_once)
        assert "no space left" in refused(capsys, ["simulate", plan, "--out", out, "--quiet"], 5)


def test_the_default_plan_and_shipped_names_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["simulate", "--set", "cohort.rounds=1", "--quiet"]) == 0
    assert (tmp_path / "runs" / "digits-scattering-eps8-001" / "report.html").exists()
    assert run(["simulate", "digits-central-eps8", "--set", "cohort.rounds=1", "--quiet"]) == 0
    assert (tmp_path / "runs" / "digits-central-eps8-001" / "report.html").exists()


def test_partition_writes_a_file_a_client(tiny_plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    assert run(["partition", str(tiny_plan), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"client-{number:03d}.npz" for number in range(5)),
        "plan.toml",
        "test.npz",
    ]
    with np.load(out / "client-000.npz") as arrays:
        assert arrays["x"].shape == (10, 1, 12, 12)


def test_a_missing_package_is_named_with_the_way_to_get_it(
    tiny_plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_pandas(*arguments: object) -> None:
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

    monkeypatch.setattr("bract.simulations.run.make_population", without_pandas)
    assert "pandas is not installed" in refused(capsys, ["simulate", tiny_plan], 2)


def test_an_unforeseen_fault_tells_its_kind_and_no_data(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("record 7 is of Ada Lovelace")

    monkeypatch.setattr("bract.simulations.run.make_population", broken)
    said = refused(capsys, ["simulate", tiny_plan], 70)
    assert "RuntimeError" in said
    assert "Lovelace" not in said
