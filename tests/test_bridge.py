"""What the doors share: trio in a thread of its own, and what other threads see of it."""

import threading
from collections.abc import Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any

import pytest
import trio

from codex_actors import errors
from codex_actors._bridge import Answer, Events, Host, Work
from codex_actors._turn import Turn, TurnActor
from codex_actors.events import Event, TurnStarted
from tests.cancel_steps import cancel_at_each_step


@pytest.fixture
def opened():
    """Opens a runtime that does nothing, and says what is open."""
    hosts: list[tuple[Host, Work]] = []

    def opened(runtime: Callable[[], object] = nullcontext) -> Host:
        host = Host(runtime())  # type: ignore[arg-type]  # a nullcontext is one of both kinds
        job = host.open()
        job.begin()
        wait(job.value)
        hosts.append((host, job))
        return host

    yield opened
    for _, job in hosts:
        job.leave()
        job.join()


def wait(answer: Answer[Any]) -> None:
    here = threading.Event()
    answer.when_here(here.set)
    assert here.wait(20)


def test_a_value_and_a_failure_reach_whoever_waits(opened):
    host = opened()

    async def answer(value: object) -> object:
        if isinstance(value, Exception):
            raise value
        return value

    right = host.call(lambda: answer(42))
    wrong = host.call(lambda: answer(KeyError("mine")))
    for job in (right, wrong):
        job.begin()
        wait(job.over)
    assert right.value.get() == 42
    with pytest.raises(KeyError, match="mine"):
        wrong.value.get()
    wrong.check()  # what was said as its value is not said again


def test_what_goes_wrong_when_something_is_closed_is_told_then(opened):
    @asynccontextmanager
    async def fragile():
        yield "open"
        raise KeyError("broken")

    job = opened().hold(fragile())
    job.begin()
    wait(job.value)
    assert job.value.get() == "open"
    job.check()  # it is not over
    job.leave()
    wait(job.over)
    with pytest.raises(KeyError, match="broken"):
        job.check()


def test_a_job_that_is_cancelled_before_it_begins_never_runs(opened):
    job = opened().call(trio.sleep_forever)
    job.cancel()
    job.begin()
    wait(job.over)
    with pytest.raises(errors.RuntimeClosedError):
        job.value.get()


def test_while_a_runtime_closes_nothing_more_is_opened_in_it():
    closes, go_on = threading.Event(), threading.Event()

    @asynccontextmanager
    async def slow():
        yield
        closes.set()
        await trio.to_thread.run_sync(go_on.wait)

    host = Host(slow())
    main = host.open()
    main.begin()
    wait(main.value)
    main.leave()
    assert closes.wait(20)
    late = host.hold(nullcontext())
    late.begin()
    wait(late.over)
    with pytest.raises(errors.RuntimeClosedError):
        late.value.get()
    go_on.set()
    main.join()


def test_a_thread_that_cannot_be_had_is_told(monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    host = Host(nullcontext())
    main = host.open()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        main.begin()
    with pytest.raises(RuntimeError, match="can't start"):
        main.value.get()
    main.cancel()  # whoever cleans up need not know that it never was


def test_a_runtime_that_fails_to_open_says_why_and_may_be_opened_again(opened):
    failures = [KeyError("not yet")]

    class Runtime:
        async def __aenter__(self) -> None:
            if failures:
                raise failures.pop()

        async def __aexit__(self, *_: object) -> None:
            pass

    host = Host(Runtime())
    first = host.open()
    first.begin()
    wait(first.over)
    with pytest.raises(KeyError, match="not yet"):
        first.value.get()
    second = host.open()
    second.begin()
    wait(second.value)
    assert second.value.get() is None
    second.leave()
    second.join()


def test_what_breaks_trio_itself_is_not_hidden(monkeypatch):
    seen: list[str] = []
    run = trio.run

    def breaks(main: Callable[..., object]) -> None:
        run(main)  # type: ignore[arg-type]
        raise trio.TrioInternalError("broken")

    monkeypatch.setattr(trio, "run", breaks)
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type.__name__))
    host = Host(nullcontext())
    main = host.open()
    main.begin()
    main.leave()
    main.join()
    assert seen == ["TrioInternalError"]


@pytest.mark.parametrize("waiters", [1, 5])
def test_an_answer_wakes_all_who_wait_for_it_and_those_who_come_later(waiters):
    answer: Answer[int] = Answer()
    woken: list[int] = []
    for number in range(waiters):
        answer.when_here(lambda number=number: woken.append(number))  # type: ignore[misc]
    assert woken == []
    answer.give(7)
    assert woken == list(range(waiters))
    answer.when_here(lambda: woken.append(-1))
    assert (woken[-1], answer.get()) == (-1, 7)


async def test_wherever_a_taker_of_events_is_cancelled_no_event_is_lost():
    batch: list[Event] = [TurnStarted(), TurnStarted()]

    async def take() -> None:
        actor = TurnActor()
        taker = Events(Turn(actor))
        await actor.put_batch(batch)
        try:
            assert await taker.fill()
        finally:
            taken = list(iter(taker.take, None))
            with suppress(trio.WouldBlock):
                taken += actor._receive.receive_nowait()
            assert taken == batch

    assert await cancel_at_each_step(take) > 0
