"""Break how a device bounds what one record moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .registry import turns_red

SENSITIVITY = "test_guarantees.py::test_one_record_moves_a_sum_by_at_most_the_sensitivity"
BESIDE = "client/clipping/test_opacus.py::test_no_record_moves_the_gradients_of_those_beside_it"


@turns_red(SENSITIVITY)
def skip_the_clip() -> None:
    import bract.client.train as train

    make_engine = train.make_engine
    train.make_engine = lambda model, clip_norm, *rest: make_engine(model, 1e12, *rest)


@turns_red(SENSITIVITY)
def clip_at_twice_the_norm() -> None:
    import bract.client.train as train

    make_engine = train.make_engine
    train.make_engine = lambda model, clip_norm, *rest: make_engine(model, 2 * clip_norm, *rest)


@turns_red(SENSITIVITY)
def let_one_bad_record_spoil_the_sum() -> None:
    import bract.client.clipping.layers.instantiated as instantiated
    import bract.client.clipping.layers.outer_product as outer_product

    instantiated.zero_unweighted = outer_product.zero_unweighted = lambda rows, factors: rows


@turns_red(SENSITIVITY)
def let_one_bad_record_spoil_the_sum_of_opacus() -> None:
    from bract.client.clipping.opacus import RecordClipper

    del RecordClipper.clip_and_accumulate


@turns_red("client/clipping/test_hostile.py::test_terms_that_cancel_move_a_sum_by_the_clip_norm_at_most")
def take_the_terms_of_a_gradient_for_less_than_they_are() -> None:
    import bract.client.clipping.clip as clip

    clip.CANCELLATION = float("inf")


@turns_red("client/clipping/test_determinism.py::test_rows_are_raised_to_what_matrix_products_treat_alike")
def take_rows_that_the_machine_does_not_treat_alike() -> None:
    import bract.client.clipping.engine as engine

    engine.batch_invariant_rows = lambda rows: rows


def with_as_many_rows_as_records(engine: Any) -> None:
    whole = engine._pass

    def varying(self: Any, chunk: Any) -> Any:
        rows, self._rows = self._rows, max(1, len(chunk))
        parts, self._rows = whole(self, chunk), rows
        return parts

    engine._pass = varying


@turns_red(BESIDE)
def let_the_number_of_rows_vary() -> None:
    from bract.client.clipping.book_keeping import BookKeepingEngine

    with_as_many_rows_as_records(BookKeepingEngine)


@turns_red(BESIDE)
def let_the_number_of_opacus_rows_vary() -> None:
    from bract.client.clipping.opacus import OpacusEngine

    with_as_many_rows_as_records(OpacusEngine)


@turns_red("client/test_oracle.py::TestOneRecordMore::test_of_a_network_that_opacus_cannot_train_is_not_looked_at")
def try_no_network_before_the_records_are_read() -> None:
    import bract.client.clipping.engine as engine
    from bract.client.clipping.opacus import OpacusEngine

    engine.check_layers_for_opacus = lambda model: None
    OpacusEngine.rehearse = lambda self, example: None


@turns_red("client/test_oracle.py::TestARecordWhosePassFails::test_is_seen_in_the_owners_log_alone")
def let_a_records_fault_out_of_its_pass() -> None:
    import bract.client.clipping.book_keeping as book_keeping
    import bract.client.clipping.opacus as opacus

    def unguarded(chunks: Any, one_pass: Callable[[Any], Any], report: Any) -> Iterator[Any]:
        return map(one_pass, chunks)

    book_keeping.without_failures = opacus.without_failures = unguarded


@turns_red("client/test_oracle.py::TestARecordWhosePassFails::test_takes_only_its_own_part_from_a_sum")
def make_the_whole_sum_zero_for_one_records_fault() -> None:
    import bract.client.clipping.failed_passes as failed_passes

    failed_passes._one_by_one = lambda chunk, one_pass, report: iter(())
