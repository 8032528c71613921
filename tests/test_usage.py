"""What one turn used, wherever that is certain."""

from pathlib import Path

import pytest

from codex_actors._usage import UsageBook, difference
from codex_actors.backends import ForkThread, NewThread, ResumeThread, ReviewChanges
from codex_actors.events import Usage
from codex_actors.options import UncommittedChanges
from tests.fakes import OTHER_THREAD, THREAD
from tests.limits import descriptors_left

USED = Usage(input_tokens=100, output_tokens=10)
RESUMED = ResumeThread(thread_id=THREAD)


@pytest.fixture
def rollout(tmp_path: Path) -> Path:
    folder = tmp_path / "sessions" / "2025" / "01" / "02"
    folder.mkdir(parents=True)
    path = folder / f"rollout-2025-01-02T00-00-00-{THREAD}.jsonl"
    path.write_text("{}\n")
    return path


@pytest.fixture
def book(tmp_path: Path, rollout: Path) -> UsageBook:
    book = UsageBook(tmp_path)
    book.after(THREAD, USED)
    return book


def test_a_new_thread_has_used_nothing(tmp_path):
    assert UsageBook(tmp_path).before(NewThread()) == Usage()


def test_a_thread_that_this_runtime_never_saw_complete_is_not_known(tmp_path):
    assert UsageBook(tmp_path).before(RESUMED) is None


def test_after_a_completed_turn_it_is_known(book):
    assert book.before(RESUMED) == USED


def test_a_turn_that_does_not_complete_makes_it_unknown(book):
    book.before(RESUMED)
    assert book.before(RESUMED) is None


def test_it_is_known_again_after_the_next_completed_turn(book):
    book.before(RESUMED)
    book.before(RESUMED)
    book.after(THREAD, USED)
    assert book.before(RESUMED) == USED


def test_another_program_that_used_the_thread_makes_it_unknown(book, rollout):
    with rollout.open("a") as file:
        file.write("{}\n")
    assert book.before(RESUMED) is None


def test_a_record_that_went_away_makes_it_unknown(book, rollout):
    rollout.unlink()
    assert book.before(RESUMED) is None


def test_a_fork_begins_with_what_its_origin_used_and_changes_nothing_about_that(book):
    assert book.before(ForkThread(thread_id=THREAD)) == USED
    assert book.before(RESUMED) == USED
    assert book.before(ForkThread(thread_id=OTHER_THREAD)) is None


def test_of_a_review_nothing_is_known(book):
    assert book.before(ReviewChanges(target=UncommittedChanges())) is None


def test_a_thread_without_a_record_is_not_kept_track_of(tmp_path):
    book = UsageBook(tmp_path)
    book.after(THREAD, USED)
    assert book.before(RESUMED) is None


def test_a_record_that_cannot_be_looked_at_costs_the_count_and_not_the_turn(book, rollout, tmp_path):
    book.before(RESUMED)
    with descriptors_left(0):
        book.after(THREAD, USED)
    assert book.before(RESUMED) is None


def test_counts_of_a_bounded_number_of_threads_are_kept(tmp_path, rollout, monkeypatch):
    monkeypatch.setattr("codex_actors._usage._MAX_THREADS", 2)
    book = UsageBook(tmp_path)
    threads = [f"019a0000-0000-7000-8000-00000000000{digit}" for digit in "123"]
    for thread_id in threads:
        rollout.with_name(f"rollout-2025-01-02T00-00-00-{thread_id}.jsonl").touch()
        book.after(thread_id, USED)
    assert [book.before(ResumeThread(thread_id=thread_id)) for thread_id in threads] == [None, USED, USED]


def test_the_difference_is_taken_number_by_number():
    after = Usage(
        input_tokens=150,
        cached_input_tokens=20,
        cache_write_input_tokens=5,
        output_tokens=12,
        reasoning_output_tokens=1,
    )
    assert difference(after, USED) == Usage(
        input_tokens=50,
        cached_input_tokens=20,
        cache_write_input_tokens=5,
        output_tokens=2,
        reasoning_output_tokens=1,
    )


@pytest.mark.parametrize(
    ("after", "before"),
    [(None, USED), (USED, None), (None, None), (Usage(input_tokens=200, output_tokens=9), USED)],
)
def test_where_a_count_is_missing_or_went_down_there_is_no_difference(after, before):
    assert difference(after, before) is None
