"""A text is continued by the model's own probabilities, and by nothing that the vocabulary does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bract.cli.main import run
from bract.privacy import DataError, PlanError
from bract.simulations.trained.continuation import continued, read_start
from bract.simulations.trained.predict import predict
from bract.simulations.trained.records import read_features
from bract.simulations.trained.run import Trained, read_trained


@pytest.fixture(scope="module")
def poem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over a text that repeats one line."""
    folder = tmp_path_factory.mktemp("poem")
    (folder / "poem.txt").write_text("the fox jumps over the dog\n" * 300)
    assert run(["new", str(folder / "poem.txt"), "--epsilon", "50", "-o", str(folder / "plan.toml")]) == 0
    short = ["--set", "cohort.rounds=2", "--seed", "1", "--quiet", "--out", str(folder / "run")]
    assert run(["simulate", str(folder / "plan.toml"), *short]) == 0
    return folder / "run"


@pytest.fixture
def trained(poem: Path) -> Trained:
    return read_trained(poem)


def start(folder: Path, text: str) -> Path:
    (folder / "start.txt").write_text(text)
    return folder / "start.txt"


def test_the_end_of_a_text_is_one_record(trained: Trained, tmp_path: Path) -> None:
    vocabulary = trained.plan.data.vocabulary
    assert vocabulary is not None
    [tokens] = read_features(start(tmp_path, "the dog" * 100), trained.plan)
    assert len(tokens) == trained.plan.data.shape[0]
    assert "".join(vocabulary[number] for number in tokens) == ("the dog" * 100)[-len(tokens) :]


def test_predictions_name_tokens(trained: Trained, tmp_path: Path) -> None:
    found = predict(trained, read_start(start(tmp_path, "the"), trained.plan))
    assert found.names == trained.plan.data.vocabulary
    assert len(found.labels) == 1


def test_a_token_is_drawn_by_its_probability(trained: Trained, tmp_path: Path) -> None:
    """Of 2,000 draws of the most likely token, the share lies within 5 standard deviations: one in 10^6 alarms."""
    record = read_start(start(tmp_path, "the fox"), trained.plan)
    found = predict(trained, record)
    assert found.probabilities is not None
    chance, token = float(found.probabilities.max()), found.labels[0]
    drawn = sum(continued(trained, record, 1, seed) == token for seed in range(2000))
    assert abs(drawn - 2000 * chance) < 5 * (2000 * chance * (1 - chance)) ** 0.5 + 2000 * 0.02


def test_equal_seeds_draw_equal_texts(trained: Trained, tmp_path: Path) -> None:
    record = read_start(start(tmp_path, "the fox"), trained.plan)
    texts = [continued(trained, record, 40, seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert [len(text) for text in texts] == [40, 40, 40]


def test_an_unknown_token_is_read_and_never_drawn(trained: Trained, tmp_path: Path) -> None:
    record = read_start(start(tmp_path, "Ω"), trained.plan)
    assert record.tolist() == [[len(trained.plan.data.vocabulary or ()) - 1]]
    assert "unknown" not in continued(trained, record, 300, 3)


@pytest.mark.parametrize("count", [1, 70])
def test_what_came_before_is_not_repeated(trained: Trained, tmp_path: Path, count: int) -> None:
    """Also where the text is longer than a record."""
    record = read_start(start(tmp_path, "the fox jumps"), trained.plan)
    assert len(continued(trained, record, count, 0)) == count


def test_without_a_vocabulary_nothing_is_guessed(trained: Trained, tmp_path: Path) -> None:
    data = trained.plan.data.model_copy(update={"vocabulary": None})
    plan = trained.plan.model_copy(update={"data": data})
    with pytest.raises(PlanError, match="does not hold a vocabulary"):
        read_start(start(tmp_path, "the"), plan)


def test_a_token_outside_the_vocabulary_is_named(trained: Trained, tmp_path: Path) -> None:
    data = trained.plan.data.model_copy(update={"vocabulary": ("a", "b")})
    plan = trained.plan.model_copy(update={"data": data})
    with pytest.raises(DataError, match="'c', which is not in"):
        read_start(start(tmp_path, "abc"), plan)


def test_the_command_continues_and_refuses_in_two_lines(
    poem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = start(tmp_path, "the ")
    capsys.readouterr()
    assert run(["predict", str(poem), str(text), "--continue", "20", "--seed", "4"]) == 0
    assert len(capsys.readouterr().out) == 21
    (tmp_path / "empty.txt").write_text("")
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 4), np.int64))
    for words in (
        [text, "--continue", "2", "-o", tmp_path / "x.csv"],
        [tmp_path / "x.npz", "--continue", "2"],
        [tmp_path / "empty.txt"],
        [text, "--continue", "0"],
        [text, "--seed", "-1"],
    ):
        assert run(["predict", str(poem), *map(str, words)]) == 2
        assert [line.partition(":")[0] for line in capsys.readouterr().err.strip().splitlines()] == ["error", "hint"]
    assert not (tmp_path / "x.csv").exists()


def test_the_global_generator_is_left_alone(trained: Trained, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    continued(trained, read_start(start(tmp_path, "the"), trained.plan), 5, 0)
    assert torch.equal(torch.get_rng_state(), before)
