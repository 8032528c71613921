"""What a turn came to, in the words that users read."""

import inspect

import msgspec
import pytest

from codex_actors.events import Usage
from codex_actors.results import PartialResult, SideEffects, Timings, TurnResult, TurnUsage


def test_a_partial_result_has_the_fields_of_a_result():
    fields = [
        {field.name for field in msgspec.structs.fields(result)} for result in (PartialResult, TurnResult)
    ]
    assert fields[0] == fields[1]


def test_only_a_partial_result_can_do_without_a_thread():
    assert PartialResult().thread_id is None
    with pytest.raises(TypeError, match="thread_id"):
        TurnResult()  # type: ignore[call-arg]


def test_every_field_of_a_result_is_documented():
    for result in (TurnResult, Usage, TurnUsage, Timings):
        names = [field.name for field in msgspec.structs.fields(result)]
        assert [
            name for name in names if f"\n    {name}: " not in inspect.cleandoc(result.__doc__ or "")
        ] == []


def test_where_nothing_is_known_nothing_is_claimed():
    nothing = PartialResult()
    assert nothing.side_effects is SideEffects.UNKNOWN
    assert (nothing.usage.thread, nothing.usage.turn) == (None, None)
    assert (nothing.timings.first_event_seconds, nothing.returncode) == (None, None)


def test_side_effects_are_one_of_three():
    assert {effect.value for effect in SideEffects} == {"none", "seen", "unknown"}


def test_a_result_is_shown_by_its_numbers_not_by_its_words():
    shown = repr(TurnResult(thread_id="t", final_response="secret", notices=("secret",), noise_lines=3))
    assert "thread_id='t'" in shown
    assert "noise_lines=3" in shown
    assert "secret" not in shown
