"""Python values as TOML on one line."""

import math
import tomllib
from datetime import UTC, date, datetime, time
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_actors import _toml
from codex_actors.errors import OptionError

Level = IntEnum("Level", "LOW HIGH")
texts = st.text() | st.text(st.characters(max_codepoint=0x7F))
scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30)


@given(values)
def test_what_is_written_reads_back_as_it_was(value):
    assert tomllib.loads(f"value = {_toml.encode(value, 'value')}") == {"value": value}


@given(values)
def test_what_is_written_is_one_line(value):
    assert not set(_toml.encode(value, "value")) & set("\n\r\0\x7f")


def test_not_a_number_reads_back_as_that():
    assert math.isnan(tomllib.loads(f"value = {_toml.encode(math.nan, 'value')}")["value"])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (Level.HIGH, "2"),
        (-math.inf, "-inf"),
        ("a\x7f\0\n", '"a\\u007f\\u0000\\n"'),
        (date(2030, 1, 2), "2030-01-02"),
        (time(1, 2), "01:02:00"),
        (datetime(2030, 1, 2, tzinfo=UTC), "2030-01-02T00:00:00+00:00"),
        ({"a": {}, "b c": [(), {"d.e": 1}]}, '{a = {}, "b c" = [[], {"d.e" = 1}]}'),
    ],
)
def test_the_form(value, written):
    assert _toml.encode(value, "value") == written


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        ({"a": [1, None]}, r"v\.a\[1\]", "NoneType"),
        ({"a": 2**63}, r"v\.a", "64 bits"),
        ([-(2**63) - 1], r"v\[0\]", "64 bits"),
        ({"a": b"secret"}, r"v\.a", "bytes"),
        ({"a": {1: 2}}, r"v\.a", "key that is a int"),
        ({"a": "\ud800secret"}, r"v\.a", "surrogate"),
        ({"a\udfff": 1}, r"v\.a", "surrogate"),
        (object(), "v", "object"),
    ],
)
def test_what_toml_cannot_hold_is_refused_by_its_path(value, path, problem):
    with pytest.raises(OptionError, match=f"^{path}.*{problem}") as refusal:
        _toml.encode(value, "v")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(("key", "bare"), [("a-b_1", True), ("", False), ("a.b", False), ("ü", False)])
def test_a_bare_key_may_stand_in_a_dotted_path(key, bare):
    assert _toml.is_bare(key) is bare


def test_what_is_no_table_or_array_counts_as_an_empty_one():
    assert (_toml.table({"a": 1}), _toml.table(1)) == ({"a": 1}, {})
    assert (_toml.array([1]), _toml.array("ab")) == ([1], ())
