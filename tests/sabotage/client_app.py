"""Break what a device reads, refuses and answers."""

from __future__ import annotations

from typing import Any

from .registry import turns_red

ANSWER = "test_guarantees.py::test_a_device_answers_with_an_update_or_a_code_alone"


@turns_red(
    "client/test_oracle.py::TestOneRecordMore::"
    "test_makes_as_many_passes_whatever_the_labels_of_a_file_are[record-central]"
)
def leave_records_outside_the_plan_out_before_they_are_sampled() -> None:
    import numpy as np

    import bract.client.app as app

    fitting = app.fitting

    def filtered(records: Any, plan: Any) -> Any:
        kept = fitting(records, plan)
        return kept.select(np.ones(len(kept), dtype=bool))

    app.fitting = filtered


@turns_red("client/test_oracle.py::TestOneRecordMore::test_of_another_shape_or_kind_is_refused_by_its_file")
def look_at_the_shape_of_such_records_alone_as_the_plan_knows() -> None:
    import bract.client.records as records_of

    check_kind = records_of._check_kind

    def by_label(records: Any, plan: Any) -> None:
        if bool((records.labels < plan.data.classes).any()):
            check_kind(records, plan)

    records_of._check_kind = by_label


@turns_red(ANSWER)
def let_a_fault_out_of_the_device() -> None:
    import bract.client.app as app

    def unguarded(message: Any, context: Any, opened: Any, answer: Any) -> Any:
        return app._reply(app.Code.OK, *answer(app._accept_message(message, context, opened)))

    app._answer = unguarded


@turns_red(ANSWER)
def send_a_figure_beside_the_update() -> None:
    import bract.client.app as app

    reply = app._reply

    def talkative(code: Any, update: Any = None, sections: Any = None) -> Any:
        records = reply(code, update, sections)
        records["metrics"] = app.ConfigRecord({"records": 600})
        return records

    app._reply = talkative


@turns_red("client/test_terms.py::test_without_a_word_no_update_leaves_without_masks")
def let_updates_out_in_the_clear_unasked() -> None:
    from bract.client.terms import Terms

    Terms.check = lambda self, mechanism: None


@turns_red("client/test_terms.py::test_rounds_that_are_worth_next_to_nothing_are_refused")
def let_in_rounds_that_are_worth_nothing() -> None:
    from bract.client.terms import Terms

    Terms._check_worth = lambda self, mechanism: None


@turns_red("client/test_refusals_are_final.py::test_terms_and_spending_refuse_with_one_reply")
def say_whether_terms_or_spending_refuse() -> None:
    import bract.client.app as app
    from bract.privacy import BudgetError

    code = app._code
    app._code = lambda fault: app.Code.FAILED if isinstance(fault, BudgetError) else code(fault)


@turns_red(
    "client/test_app_deployed.py::TestTheDeployedApp::test_answers_nothing_while_others_can_change_what_it_goes_by"
)
def go_by_files_that_others_can_change() -> None:
    import bract.client.device as device
    import bract.privacy.storage as storage

    storage.exposed = device.exposed = lambda path: None


@turns_red("client/test_own_network.py::test_a_network_that_the_terms_do_not_list_is_not_imported")
def look_a_network_up_that_the_terms_do_not_list() -> None:
    from bract.client.terms import Terms

    Terms.check_network = lambda self, name: None


@turns_red("client/test_tables.py::test_a_cell_that_does_not_fit_makes_a_blank")
def refuse_a_table_for_a_cell_in_it() -> None:
    import bract.client.records as records
    from bract.models.tables import Unfit

    prepare = records.prepare

    def refusing(cut, data):
        found = prepare(cut, data)
        if not found.known.all():
            raise Unfit("a cell does not fit", "mend it")
        return found

    records.prepare = refusing
