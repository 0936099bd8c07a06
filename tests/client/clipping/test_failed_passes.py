"""A record whose pass fails is found and reported; the passes of all others are kept."""

from __future__ import annotations

import logging

import pytest
import torch

from bract.client.clipping.failed_passes import log_failure, made_up_record, without_failures
from bract.client.records import Records

RECORDS = Records(torch.arange(10.0).view(10, 1), torch.arange(10))


def choking(*bad: int) -> object:
    def one_pass(chunk: Records) -> list[int]:
        if set(found := chunk.labels.tolist()) & set(bad):
            raise ValueError("choked")
        return found

    return one_pass


@pytest.mark.parametrize("bad", [(), (0,), (3,), (9,), (2, 3, 7), tuple(range(10))])
def test_only_records_that_fail_are_left_out(bad: tuple[int, ...]) -> None:
    """Their places are those in the batch, not in the chunk of four that they are in."""
    failed = list[int]()
    found = without_failures(RECORDS.chunks(4), choking(*bad), lambda place, fault: failed.append(place))  # type: ignore[arg-type]
    assert [label for passed in found for label in passed] == [n for n in range(10) if n not in bad]
    assert failed == list(bad)


def test_a_failure_is_in_the_log_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bract.client"):
        log_failure(7, ValueError("choked"))
    assert "record 7" in caplog.text


def test_a_made_up_record_holds_nothing_of_a_record() -> None:
    made = made_up_record(RECORDS)
    assert made.features.tolist() == [[1.0]]
    assert made.labels.tolist() == [1]
    assert len(made_up_record(Records(RECORDS.features[:0], RECORDS.labels[:0]))) == 1
