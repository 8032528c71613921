"""The page of conformance tells the truth about every row."""

import re

from tests.otp import conformance
from tests.otp.cases import rows


def test_every_row_is_accounted_for():
    assert [row for row, status, _ in conformance.verdicts() if status == "missing"] == []
    assert len(rows()) == 284


def test_no_test_is_of_a_row_that_there_is_not():
    known = {(row.suite, row.name) for row in rows()}
    assert set(conformance.marked()) - known == set()


def test_what_applies_to_supervisors_is_done():
    """Rows that apply, as they are or with a change, are tested, or wait for what supervisors need first."""
    waits = [
        row.name
        for row, status, remark in conformance.verdicts()
        if row.suite in {"OTP", "EXS", "EXD"}
        and row.kind in "AC"
        and status in {"later", "does not apply"}
        and remark not in {"registry", "introspection", "limits that change while it runs"}
    ]
    assert waits == []


def test_tests_that_rows_refer_to_are_there():
    for _, _, remark in conformance.verdicts():
        for file, _, name in re.findall(r"`(tests/[^`:]*)(::(\w+))?`", remark):
            assert f"def {name}" in (conformance.ROOT / file).read_text(), name


def test_the_page_is_up_to_date():
    assert conformance.PAGE.read_text() == conformance.page(), "run `python -m tests.otp.conformance`"
