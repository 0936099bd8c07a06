"""Break how a device samples, trains and makes its vector."""

from __future__ import annotations

import dataclasses
from typing import Any

from .registry import turns_red

FRESH = "test_guarantees.py::test_every_step_takes_a_fresh_poisson_sample"


@turns_red("test_guarantees.py::test_one_unit_moves_a_vector_by_the_clip_norm_and_rounding")
def leave_a_clients_change_as_long_as_it_is() -> None:
    import bract.client.train as train
    from bract.privacy import Clipped

    train.clip_change = lambda update, plan: Clipped(update.vector)


@turns_red("client/test_train_cells.py::test_a_change_is_divided_by_the_scale_of_the_clip_norm")
def do_not_divide_a_change_by_the_adaptive_scale() -> None:
    import bract.client.train as train

    divided = train.clipped_change

    def undivided(task: Any) -> Any:
        return divided(dataclasses.replace(task, scale=1.0))

    train.VECTORS["client"] = train.clipped_change = undivided


@turns_red("client/test_train.py::test_the_divisor_is_the_public_batch_size")
def divide_by_how_many_were_sampled() -> None:
    import bract.client.train as train
    from bract.privacy import Clipped

    sampled_sum = train.sampled_sum

    def mean(task: Any, parameters: Any, step: int) -> Clipped:
        rate, count = task.plan.privacy.sampling_rate, len(task.records)
        sampled = train.poisson_sample(task.draw("sample", step), rate, count).sum()
        scale = task.plan.training.batch_size / max(1, sampled)
        return Clipped(sampled_sum(task, parameters, step).vector * scale)

    train.sampled_sum = mean


@turns_red(FRESH)
def sample_more_than_the_plan_says() -> None:
    import bract.client.train as train

    planned = train.poisson_sample
    train.poisson_sample = lambda keystream, rate, n: planned(keystream, min(1, 1.5 * rate), n)


@turns_red(FRESH)
def use_one_poisson_sample_again() -> None:
    from bract.simulations.seeded import SeededEntropy

    fresh = SeededEntropy.keystream
    SeededEntropy.keystream = lambda self, *purpose: fresh(self, *(purpose[:2] if "sample" in purpose else purpose))


@turns_red("test_guarantees.py::test_no_two_devices_and_no_two_rounds_draw_the_same_noise")
def draw_the_same_noise_on_all_devices() -> None:
    from bract.simulations.seeded import SeededEntropy

    fresh = SeededEntropy.keystream
    SeededEntropy.keystream = lambda self, *purpose: fresh(self, *(purpose[2:] if "device" in purpose else purpose))


@turns_red(
    "client/test_oracle.py::TestOneRecordMore::"
    "test_makes_no_pass_more_though_it_fills_a_pass_the_better[record-central]"
)
def pass_only_if_something_was_sampled() -> None:
    import bract.client.train as train

    train.passes_of = lambda plan, records, rows: 0


@turns_red("client/test_mask.py::test_masks_cover_every_word_and_come_off_again")
def leave_the_masks_off() -> None:
    import bract.client.mask as mask

    mask.add_masks = lambda words, masks: None
