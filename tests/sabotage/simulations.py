"""Break what a simulation keeps apart, checks and forgets."""

from __future__ import annotations

from types import SimpleNamespace

from .registry import turns_red


@turns_red("simulations/test_seeded.py::test_every_bit_of_a_key_depends_on_the_seed")
def cut_a_seeded_key_to_32_bits() -> None:
    import bract.simulations.seeded as seeded

    sha256 = seeded.hashlib.sha256

    def cut(text: bytes) -> SimpleNamespace:
        return SimpleNamespace(digest=lambda: sha256(text).digest()[:4] + bytes(28))

    seeded.hashlib = SimpleNamespace(sha256=cut)


@turns_red("simulations/datasets/test_odd_csv.py::test_an_odd_csv_is_read_as_meant_or_refused")
def take_one_owner_for_two_where_the_name_has_another_form() -> None:
    import bract.simulations.datasets.checks as checks

    checks.clean = str.strip


@turns_red("cli/test_folders.py::test_records_and_keys_of_a_partition_are_their_owners_alone")
def leave_a_partitions_records_open_to_all() -> None:
    import bract.simulations.shards as shards

    replace_file = shards.replace_file
    shards.replace_file = lambda path, data, private=False: replace_file(path, data)


@turns_red("simulations/test_run_memory.py::test_the_secrets_of_an_unopened_last_round_are_let_go_of")
def hold_on_to_the_secrets_of_a_round_that_is_never_opened() -> None:
    from bract.simulations.local_grid import LocalGrid

    LocalGrid.forget = lambda self: None


@turns_red("simulations/test_same_data.py::test_swapped_data_are_refused_when_a_run_goes_on")
def go_on_with_a_run_over_other_data() -> None:
    import bract.simulations.run as run

    run.check_data = lambda path, found: None
