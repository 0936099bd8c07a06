"""What a model is worth: every figure against scikit-learn's, for each objective."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from torch import nn

from bract.models import NETWORKS, Network, build, load_flat, read_flat
from bract.models.objectives import CLASSIFICATION, NEXT_TOKEN, RECONSTRUCTION, REGRESSION, Objective
from bract.privacy import Plan
from bract.privacy.plan.schema import Data, Model
from bract.server.evaluation import meters
from bract.server.evaluation.evaluate import BATCH, Quality, make_evaluate
from bract.server.evaluation.meters import METERS, figures_of
from bract.server.evaluation.metrics import FIGURES, Score

Make = Callable[..., Plan]


def table(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 1, 2, 2)).astype(np.float32), rng.integers(0, 3, count)


def constant(bias: list[float]) -> np.ndarray:
    """Parameters under which every record gets these logits."""
    return np.array([0.0] * 12 + bias, dtype=np.float32)


def measured(objective: Objective, outputs: torch.Tensor, targets: torch.Tensor, classes: int) -> dict[str, float]:
    """The figures of outputs that come in two batches, of which the second is smaller."""
    found, cut = METERS[objective.name](targets, classes), 2 * len(outputs) // 3
    for rows in (slice(cut), slice(cut, None)):
        for meter in found:
            meter.update(outputs[rows], targets[rows])
    return figures_of(found, finite=True)


def of_labels(labels: np.ndarray, told: np.ndarray) -> dict[str, float]:
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, told, average="macro", zero_division=0.0
    )
    return {"accuracy": metrics.accuracy_score(labels, told), "precision": precision, "recall": recall, "f1": f1}


seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25)


class TestTheFiguresOf:
    @few
    @given(seeds, st.integers(2, 5), st.integers(3, 40), st.sampled_from([0.1, 3.0, 50.0]))
    def test_classification(self, seed: int, classes: int, count: int, size: float) -> None:
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, classes, count)
        outputs = torch.from_numpy(np.float32(size * rng.normal(size=(count, classes))))
        expected = of_labels(labels, outputs.argmax(1).numpy())
        if len(set(labels.tolist())) == classes:
            shares = outputs.softmax(1).numpy().astype(float)
            each = [metrics.roc_auc_score(labels == label, shares[:, label]) for label in range(classes)]
            expected["roc_auc"] = float(np.mean(each))
        found = measured(CLASSIFICATION, outputs, torch.from_numpy(labels), classes)
        assert list(found) == list(expected)
        assert found == pytest.approx(expected, abs=1e-6)

    @few
    @given(seeds, st.integers(2, 5), st.sampled_from([0.1, 3.0, 100.0]))
    def test_next_token(self, seed: int, classes: int, size: float) -> None:
        rng = np.random.default_rng(seed)
        tokens = torch.from_numpy(rng.integers(0, classes, (7, 4)))
        outputs = torch.from_numpy(np.float32(size * rng.normal(size=(7, 4, classes))))
        found = measured(NEXT_TOKEN, outputs, tokens, classes)
        shares = outputs.double().flatten(0, 1).softmax(1).numpy()
        loss = -np.log(shares[np.arange(28), tokens.flatten()]).mean()
        assert found["accuracy"] == pytest.approx(metrics.accuracy_score(tokens.flatten(), shares.argmax(1)))
        assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-9)

    @few
    @given(seeds, st.integers(2, 40), st.sampled_from([1e-4, 1.0, 1e4]), st.sampled_from([0.0, 1.0, 1e4]))
    def test_regression(self, seed: int, count: int, spread: float, shift: float) -> None:
        rng = np.random.default_rng(seed)
        targets = np.float32(shift + spread * rng.normal(size=count))
        outputs = np.float32(targets + spread * rng.normal(size=count))
        found = measured(REGRESSION, torch.from_numpy(outputs)[:, None], torch.from_numpy(targets), 2)
        pair = targets.astype(float), outputs.astype(float)
        expected = {"rmse": metrics.root_mean_squared_error(*pair), "mae": metrics.mean_absolute_error(*pair)}
        if len(set(targets.tolist())) > 1:
            expected |= {"r2": metrics.r2_score(*pair)}
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 * spread)

    @few
    @given(seeds, st.integers(2, 9))
    def test_reconstruction(self, seed: int, count: int) -> None:
        images = torch.from_numpy(np.float32(np.random.default_rng(seed).random((2, count, 1, 3, 3))))
        found = measured(RECONSTRUCTION, images[0], images[1], 2)
        error = metrics.mean_squared_error(images[1].double().flatten(), images[0].double().flatten())
        assert found == pytest.approx({"mse": error, "psnr": -10 * math.log10(error)}, rel=1e-6)

    @pytest.mark.parametrize(
        ("objective", "outputs", "targets", "key"),
        [
            (CLASSIFICATION, torch.eye(6, 3), torch.arange(6) % 3, "accuracy"),
            (NEXT_TOKEN, torch.eye(6, 3)[:, None], torch.arange(6)[:, None] % 3, "accuracy"),
            (REGRESSION, torch.ones(6, 1), torch.arange(6.0), "r2"),
            (RECONSTRUCTION, torch.ones(6, 2), torch.zeros(6, 2), "mse"),
        ],
        ids=lambda value: getattr(value, "name", ""),
    )
    def test_an_objective_have_one_to_compare_by(
        self, objective: Objective, outputs: torch.Tensor, targets: torch.Tensor, key: str
    ) -> None:
        found = measured(objective, outputs, targets, 3)
        score = Quality(1.0, found).score
        assert score == Score(FIGURES[key], found[key])
        assert score.merit == (-1 if key == "mse" else 1) * found[key]


class TestWhatCannotBeMeasured:
    def test_is_left_out_where_all_targets_are_the_same(self) -> None:
        same = torch.ones(6)
        assert set(measured(REGRESSION, torch.rand(6, 1), same, 2)) == {"rmse", "mae"}
        assert "roc_auc" not in measured(CLASSIFICATION, torch.rand(6, 3), same.long(), 3)

    def test_is_no_roc_auc_of_zero_where_there_is_one_class_only(self) -> None:
        for classes in (1, 2):
            figures = measured(CLASSIFICATION, torch.rand(6, classes), torch.zeros(6).long(), classes)
            assert "roc_auc" not in figures
            assert figures["accuracy"] >= 0.0

    def test_is_not_taken_for_class_0_where_the_model_tells_no_label(self, make: Make) -> None:
        x, _ = table(30)
        quality = make_evaluate(make(), x, np.zeros(30, dtype=np.int64))(np.full(15, math.nan, dtype=np.float32))
        assert quality == Quality(None, {})
        x[7] = math.nan  # one record of which nothing can be told
        assert make_evaluate(make(), x, np.zeros(30, dtype=np.int64))(constant([1.0, 0.0, 0.0])).figures == {}

    def test_is_left_out_where_too_much_would_have_to_be_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        labels, outputs = torch.arange(6) % 3, torch.rand(6, 3)
        monkeypatch.setattr(meters, "KEPT", 17)
        assert "roc_auc" not in measured(CLASSIFICATION, outputs, labels, 3)
        monkeypatch.setattr(meters, "KEPT", 18)
        assert "roc_auc" in measured(CLASSIFICATION, outputs, labels, 3)

    def test_is_left_out_where_nothing_is_wrong(self) -> None:
        assert measured(RECONSTRUCTION, torch.ones(2, 4), torch.ones(2, 4), 2) == {"mse": 0.0}

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_is_left_out_where_the_model_has_diverged(self, make: Make, value: float) -> None:
        x, y = table(30)
        quality = make_evaluate(make(), x, y)(constant([value, 0.0, 0.0]))
        assert quality.loss is None
        assert list(quality.figures) == ([] if math.isnan(value) else ["accuracy", "precision", "recall", "f1"])
        lost = np.full(15, math.nan, dtype=np.float32)
        for objective in (NEXT_TOKEN, REGRESSION, RECONSTRUCTION):
            assert learning(objective, make)(lost).figures == {}


def learning(objective: Objective, make: Make) -> Callable[[np.ndarray], Quality]:
    """An evaluation of a network with 15 parameters, or as few as its task needs, that learns the objective."""
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 4), dtype=np.float32), rng.random(30, dtype=np.float32)
    networks: dict[str, Callable[[], nn.Module]] = {
        "regression": lambda: nn.Linear(4, 1),
        "reconstruction": lambda: nn.Linear(4, 4),
        "next token": lambda: nn.Embedding(3, 3),
    }
    if objective is NEXT_TOKEN:
        x, y = rng.integers(0, 3, (2, 30, 4))
    plan = make(data={"shape": [4]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", Network("tiny", lambda shape, classes: networks[objective.name](), objective))
        evaluate = make_evaluate(plan, x, y)
    count = sum(p.numel() for p in networks[objective.name]().parameters())
    return lambda parameters: evaluate(np.resize(parameters, count))


@pytest.mark.parametrize("objective", [NEXT_TOKEN, REGRESSION, RECONSTRUCTION])
def test_the_loss_is_that_of_the_objective(objective: Objective, make: Make) -> None:
    quality = learning(objective, make)(np.linspace(-1, 1, 15, dtype=np.float32))
    assert quality.loss is not None
    figures = quality.figures
    other = {
        "next token": lambda: math.log(figures["perplexity"]),
        "regression": lambda: figures["rmse"] ** 2,
        "reconstruction": lambda: figures["mse"],
    }
    assert quality.loss == pytest.approx(other[objective.name](), rel=1e-5)


def test_accuracy_is_the_share_of_right_largest_logits(make: Make) -> None:
    """Of records whose largest logit is their label."""
    x, _ = table(10)
    y = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    evaluate = make_evaluate(make(), x, y)
    assert evaluate(constant([1.0, 0.0, 0.0])).figures["accuracy"] == 0.3
    assert evaluate(constant([0.0, 1.0, 0.0])).figures["accuracy"] == 0.2
    assert evaluate(constant([0.0, 0.0, 1.0])).figures["accuracy"] == 0.5


def test_loss_is_the_mean_cross_entropy_in_nats(make: Make) -> None:
    x, y = table(10)
    assert make_evaluate(make(), x, y)(constant([0.0, 0.0, 0.0])).loss == pytest.approx(np.log(3), rel=1e-6)


def test_every_record_counts_once_however_many_batches_they_fill(make: Make) -> None:
    x, y = table(2 * BATCH + 3)
    plan = make()
    model = build("tiny", plan.data.shape, plan.data.classes, seed=0)
    with torch.no_grad():
        logits = model(torch.from_numpy(x))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(y)).item()
    quality = make_evaluate(plan, x, y)(read_flat(model))
    assert quality.loss == pytest.approx(loss, rel=1e-5)
    expected = of_labels(y, logits.argmax(1).numpy())
    expected["roc_auc"] = metrics.roc_auc_score(y, logits.double().softmax(1), multi_class="ovr")
    assert quality.figures == pytest.approx(expected, abs=1e-6)


def test_each_call_is_of_the_parameters_it_was_given(make: Make) -> None:
    x, y = table(50)
    evaluate = make_evaluate(make(), x, y)
    first = evaluate(constant([1.0, 0.0, 0.0]))
    evaluate(constant([0.0, 5.0, 0.0]))
    assert evaluate(constant([1.0, 0.0, 0.0])) == first


def test_parameters_are_left_as_they_are(make: Make) -> None:
    x, y = table(5)
    parameters = constant([1.0, 2.0, 3.0])
    parameters.flags.writeable = False
    make_evaluate(make(), x, y)(parameters)
    assert np.array_equal(parameters, constant([1.0, 2.0, 3.0]))


def test_it_leaves_other_networks_alone(make: Make) -> None:
    model = build("tiny", (1, 2, 2), 3, seed=0)
    load_flat(model, constant([1.0, 2.0, 3.0]))
    make_evaluate(make(), *table(5))(constant([0.0, 0.0, 0.0]))
    assert np.array_equal(read_flat(model), constant([1.0, 2.0, 3.0]))


def test_parameters_of_another_length_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="expected 15 parameters"):
        make_evaluate(make(), *table(5))(np.zeros(14, dtype=np.float32))


@pytest.mark.parametrize(
    ("rule", "unit"), [({"standardize": [150.0, 40.0]}, 40.0), ({"scale": [100.0, 300.0]}, 100.0)]
)
def test_errors_of_numbers_are_in_the_units_of_the_data(rule: dict[str, list[float]], unit: float) -> None:
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    targets = features.sum(1)
    plans = [
        Plan(
            data=Data.model_validate({"shape": (4,), "classes": 1, "label": "price", "columns": columns}),
            model=Model(name="linear"),
        )
        for columns in (None, {"price": rule})
    ]
    plain, scaled = (make_evaluate(plan, features, targets)(np.zeros(5, np.float32)) for plan in plans)
    assert scaled.figures["rmse"] == pytest.approx(unit * plain.figures["rmse"])
    assert scaled.figures["mae"] == pytest.approx(unit * plain.figures["mae"])
    assert (scaled.loss, scaled.figures["r2"]) == (plain.loss, plain.figures["r2"])
