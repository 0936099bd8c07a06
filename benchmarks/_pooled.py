"""The comparison for `utility.py`: DP-SGD by Opacus on the pooled records, as its users run it."""

from __future__ import annotations

import warnings

import torch
from opacus import PrivacyEngine
from opacus.accountants.utils import get_noise_multiplier
from torch.utils.data import DataLoader, TensorDataset

from bract.models import build, features_of, objective_of, parts_of, read_flat
from bract.server.evaluation.evaluate import make_evaluate
from bract.server.optimizer import average
from bract.simulations.population import make_population
from bract.simulations.study import Study


def pooled_accuracy(study: Study, seed: int) -> tuple[float, float]:
    """Return the test accuracy and the noise multiplier of Opacus with the study's data, model, steps and epsilon.

    Learning rate, momentum, sampling rate, divisor and model averaging are the study's too. Opacus calibrates the
    noise. Fixed features are computed once.
    """
    p, t = study.privacy, study.training
    population = make_population(study, torch.device("cpu"))
    noise = get_noise_multiplier(
        target_epsilon=p.epsilon,
        target_delta=p.delta,
        sample_rate=p.sampling_rate,
        steps=study.cohort.rounds,
        accountant="prv",
    )
    torch.manual_seed(seed)
    fixed, model = parts_of(build(study.model.name, study.data.shape, study.data.classes, seed))
    features = population.records.features
    records = TensorDataset(features if fixed is None else features_of(fixed, features), population.records.labels)
    rate = t.learning_rate * study.server.learning_rate
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=study.server.momentum)
    loader = DataLoader(records, batch_size=round(p.sampling_rate * len(records)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, optimizer, loader = PrivacyEngine().make_private(
            module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=noise, max_grad_norm=p.clip_norm
        )
        averaged = _train(study, model, optimizer, loader)
    evaluate = make_evaluate(study, population.test.features, population.test.labels)
    return evaluate(averaged).figures["accuracy"], noise


def _train(study: Study, model, optimizer, loader):
    """Return the exponential average of the models after the study's number of steps, float32 [parameters]."""
    learns, averaged, step = objective_of(study.model.name, study.data.shape), read_flat(model), 0
    while step < study.cohort.rounds:
        for features, labels in loader:
            optimizer.zero_grad(set_to_none=True)
            learns.loss(model(features), learns.targets(features, labels)).mean().backward()
            optimizer.step()
            step += 1
            averaged = average(study, step, averaged, read_flat(model))
            if step == study.cohort.rounds:
                break
    return averaged
