"""Break the noise, the sensitivity and the ring."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .registry import turns_red

FEWEST = "test_shared_noise.py::test_the_fewest_honest_devices_bring_the_planned_noise"
CHARGED = "server/secure/test_noise_floor.py::test_survivors_are_charged_for_the_noise_that_they_brought"


@turns_red("test_guarantees.py::test_what_the_server_releases_carries_the_planned_noise")
def halve_the_servers_noise() -> None:
    import bract.privacy.mechanisms.central as central

    gaussian = central.gaussian
    central.gaussian = lambda std, count, keystream: gaussian(std / 2, count, keystream)


@turns_red("test_guarantees.py::test_what_a_device_steps_on_carries_the_planned_noise")
def halve_the_devices_noise() -> None:
    import bract.privacy.mechanisms.local as local

    gaussian = local.gaussian
    local.gaussian = lambda std, count, keystream: gaussian(std / 2, count, keystream)


@turns_red("client/test_train.py::test_local_steps_carry_the_noise_of_each_of_their_steps")
def add_the_noise_of_the_first_local_step_to_all() -> None:
    from bract.privacy.mechanisms.local import Local

    noise = Local.noise
    Local.noise = lambda self, count, steps, draw: iter([next(noise(self, count, steps, draw))] * steps)


@turns_red(FEWEST)
def halve_the_shares_of_the_noise() -> None:
    import bract.privacy.mechanisms.distributed as distributed

    skellam = distributed.skellam
    distributed.skellam = lambda variance, count, keystream: skellam(variance / 2, count, keystream)


@turns_red(FEWEST)
def leave_the_share_of_the_noise_out() -> None:
    import bract.privacy.mechanisms.distributed as distributed

    distributed.skellam = lambda variance, count, keystream: np.zeros(count, dtype=np.int64)


@turns_red(FEWEST)
def size_the_noise_for_all_devices() -> None:
    from bract.privacy import Plan

    quorum = Plan.quorum.fget
    Plan.quorum = property(lambda self: quorum(self)._replace(least_survivors=self.cohort.size))


@turns_red(FEWEST)
def size_the_noise_as_if_nobody_colluded() -> None:
    from bract.privacy import Plan

    quorum = Plan.quorum.fget
    Plan.quorum = property(lambda self: quorum(self)._replace(colluders=0))


@turns_red("test_shared_noise.py::test_what_is_charged_is_the_noise_that_arrived")
def forget_the_colluders_in_the_charge() -> None:
    from bract.privacy.mechanisms.distributed import Distributed

    arrived = Distributed.relative_variance
    Distributed.relative_variance = lambda self, survivors, devices: arrived(self, survivors, survivors)


@turns_red(CHARGED)
def give_up_a_layer_of_noise_that_dropouts_made_needed() -> None:
    from bract.privacy.mechanisms.distributed import Distributed

    Distributed.kept_layers = lambda self, survivors: 0


@turns_red(CHARGED)
def charge_for_the_noise_of_those_who_dropped_out() -> None:
    from bract.privacy import Mechanism

    event = Mechanism.event

    def of_all(self: Any, view: Any, survivors: int | None = None) -> Any:
        return event(self, view, survivors and self.plan.cohort.size)

    Mechanism.event = of_all


@turns_red("privacy/mechanisms/test_distributed_layers.py::test_what_survivors_keep_is_claimed_and_charged")
def charge_for_layers_of_noise_that_come_off() -> None:
    from bract.privacy.mechanisms.distributed import Distributed

    Distributed.relative_variance = lambda self, survivors, devices: devices * self.numbers.weights[-1]


@turns_red("client/secure_round/test_layers.py::test_the_layers_are_in_the_vector_that_leaves")
def leave_the_layers_out_of_what_a_device_sends() -> None:
    import bract.privacy.mechanisms.distributed as distributed

    distributed.layer_noise = lambda variances, seeds, count: np.zeros(count, dtype=np.int64)


@turns_red("test_shared_noise.py::test_a_hair_moves_a_rounded_vector_by_a_hair_on_average")
def round_to_the_nearest_without_a_sensitivity_for_it() -> None:
    import bract.privacy.mechanisms.distributed as distributed

    distributed.round_randomly = lambda vector, step, keystream: np.rint(vector / step).astype(np.int64)


@turns_red("test_shared_noise.py::test_a_unit_moves_a_rounded_sum_by_what_is_charged")
def leave_random_rounding_out_of_the_sensitivity() -> None:
    from bract.privacy.mechanisms.distributed import Distributed

    numbers = Distributed.numbers.func
    Distributed.numbers = property(lambda self: replace(numbers(self), sensitivity=self.clip_norm))


@turns_red("privacy/encoding/test_quantization.py::test_the_allowance_for_rounding_is_needed_and_nearly_used")
def leave_the_grid_out_of_the_sensitivity() -> None:
    from bract.privacy.mechanisms.central import Central
    from bract.privacy.mechanisms.local import Local

    Local.sensitivity = Central.sensitivity = lambda self, dimension: self.clip_norm


@turns_red(
    "privacy/mechanisms/test_contribution.py::test_a_vector_that_is_not_clipped_is_refused[client-distributed]"
)
def take_a_vector_that_nobody_clipped() -> None:
    import bract.privacy.mechanisms.distributed as distributed

    distributed.Clipped = distributed.Update


@turns_red("test_bound_to_the_round.py::test_a_sum_at_the_edge_of_the_ring_is_as_what_it_wraps_to")
def let_a_sum_wrap_before_its_noise_is_in_it() -> None:
    import bract.privacy.mechanisms.central as central

    def unwrapped(self: Any, total: Any, noise: Any) -> Any:
        return central.dequantize(total.vector * self.grid.refinement + noise, self.grid.noise_step)

    central.Central.with_noise = unwrapped


@turns_red("server/aggregation/test_plain.py::test_the_sum_is_exact_whatever_the_ring")
def let_the_sum_overflow() -> None:
    from bract.privacy.encoding.ring import LARGEST_SUM

    LARGEST_SUM.update({bits: 2 * largest for bits, largest in LARGEST_SUM.items()})


@turns_red("server/test_correlated_noise.py::test_what_is_released_is_correlated_as_its_weights_say")
def forget_the_norm_of_the_weights() -> None:
    import bract.privacy.mechanisms.central as central

    central.weights_norm = lambda weights: float(weights[0])
