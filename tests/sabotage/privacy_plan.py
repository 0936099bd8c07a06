"""Break the rules of a plan, and its acceptance."""

from __future__ import annotations

from .registry import turns_red


@turns_red("test_guarantees.py::test_nobody_takes_a_plan_that_costs_more_than_its_budget")
def accept_a_plan_without_its_checks() -> None:
    import bract.privacy.accept as accept

    accept.CHECKS = ()


@turns_red("test_guarantees.py::test_nobody_takes_a_plan_that_costs_more_than_its_budget")
def accept_a_plan_that_costs_more_than_its_budget() -> None:
    import bract.privacy.accept as accept

    accept.CHECKS = (accept.check_steps, accept.check_ring, accept.check_noise)


@turns_red("privacy/test_accept.py::test_a_ring_is_accepted_just_if_its_grid_is_fine_enough")
def accept_a_ring_that_is_too_small() -> None:
    import bract.privacy.accept as accept

    accept.CHECKS = (accept.check_steps, accept.check_budget, accept.check_noise)


@turns_red("privacy/test_accept.py::test_a_ring_without_room_for_the_cohorts_sum_is_refused")
def accept_a_ring_in_which_the_sum_overflows() -> None:
    """Look at whether the grid is fine enough, but not at whether there is one."""
    import bract.privacy.accept as accept

    check_ring = accept.check_ring

    def finite_alone(mechanism: accept.Mechanism) -> None:
        if mechanism.grid.step < accept.math.inf:
            check_ring(mechanism)

    accept.CHECKS = tuple(finite_alone if check is check_ring else check for check in accept.CHECKS)


@turns_red("privacy/plan/test_hostile.py::test_too_many_steps_are_refused_before_they_are_counted")
def accept_more_steps_than_are_accounted_for() -> None:
    import bract.privacy.accept as accept

    accept.CHECKS = (accept.check_ring, accept.check_budget, accept.check_noise)


@turns_red("privacy/test_accept.py::test_noise_of_less_than_a_step_of_its_grid_is_refused[2e-05-False]")
def accept_noise_that_cannot_be_drawn() -> None:
    import bract.privacy.accept as accept

    accept.CHECKS = (accept.check_steps, accept.check_ring, accept.check_budget)


@turns_red("privacy/plan/test_hostile.py::test_minus_zero_is_zero_for_the_digest_too")
def keep_minus_zero_in_a_plan() -> None:
    """Pydantic holds on to the function itself, so its code is replaced."""
    from bract.privacy.plan.schema import Section

    def as_it_is(cls: type[Section], value: object) -> object:
        return value

    Section.without_minus_zero.__func__.__code__ = as_it_is.__code__


@turns_red("privacy/plan/test_faults.py::test_a_delta_that_would_let_one_unit_be_published_is_refused")
def take_a_delta_with_which_one_unit_could_be_published() -> None:
    import bract.privacy.plan.rules as rules

    rules.gives_one_away = lambda delta, units: delta * units > 1.005


@turns_red("client/secure_round/test_counts.py::TestFewerThanTheLeast::test_survivors_open_nothing")
def open_a_sum_with_too_little_noise() -> None:
    from bract.privacy import Plan

    Plan.least_survivors = property(lambda self: max(4, self.cohort.minimum))


@turns_red("client/test_terms.py::test_too_few_survivors_are_refused_at_the_offer")
def refuse_too_few_survivors_after_the_charge_alone() -> None:
    from bract.privacy import Plan

    Plan.least_survivors = property(lambda self: self.cohort.size)


@turns_red("privacy/test_npz.py::test_no_value_of_a_record_decides_if_its_file_is_read")
def refuse_a_devices_file_for_a_value_in_it() -> None:
    import numpy as np

    import bract.privacy.npz as npz

    fault = npz._fault
    npz._fault = lambda x, y: fault(x, y) or (None if np.isfinite(x).all() else "a value is missing")


@turns_red("privacy/plan/test_columns.py::test_a_transform_that_takes_statistics_is_refused")
def pass_over_an_unknown_transform() -> None:
    import bract.privacy.plan.schema as schema

    schema.Column.model_config["extra"] = "ignore"
    for section in (schema.Column, schema.Data):
        section.model_rebuild(force=True)
