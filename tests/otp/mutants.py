"""Bugs that a supervisor could well have, each as a change of one place in its source.

As a program, it plants each in turn and prints, for each, what its test says of it. Each has a process of
its own, forked when all is imported: most take less time than pytest needs to start.
"""

import importlib
import inspect
import itertools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import structlog
import trio
from trio.testing import MockClock

ROOT = Path(__file__).parents[2]
ROOMS = ("_supervision", "_ending", "_child", "_reports", "_host", "_supervisor")
TESTS = (
    *("tests/test_supervision", "tests/test_supervisor", "tests/test_child", "tests/test_reports"),
    "tests/test_ending",
    *("tests/otp/test_supervisor_suite", "tests/otp/test_elixir_supervisor"),
    *("tests/otp/test_elixir_dynamic_supervisor", "tests/otp/test_trio_rows"),
)
# A bug may well make a test go on for ever, or wait for ever; this long is enough to call it seen.
CPU_SECONDS, WAIT_SECONDS = 1, 5


class Mutant(NamedTuple):
    """A planted bug.

    Attributes:
        bug: What is wrong then.
        room: The file of the package that it is planted in.
        right: What stands there, once.
        wrong: What stands there with the bug.
        seen_by: Part of the name of the test that sees it.
    """

    bug: str
    room: str
    right: str
    wrong: str
    seen_by: str

    def source(self) -> str:
        """The room with the bug in it."""
        source = (ROOT / "codex_actors" / f"{self.room}.py").read_text()
        if source.count(self.right) != 1:
            raise ValueError(f"{self.bug}: not once in {self.room}: {self.right}")
        return source.replace(self.right, self.wrong)


DECIDES, ENDING, CHILD, REPORTS, HOST, SUPERVISES = ROOMS

MUTANTS = [
    # ---- the budget
    Mutant(
        "a restart is forgotten at the last instant of its period",
        DECIDES,
        "self._restarts[0] < oldest",
        "self._restarts[0] <= oldest",
        "counts_for_a_period",
    ),
    Mutant(
        "floats move the boundary",
        DECIDES,
        "oldest = round(now * _NS) - self._period_ns",
        "oldest = now * _NS - self._period_ns",
        "no_sum_of_floats",
    ),
    Mutant(
        "one restart too few",
        DECIDES,
        "self.count(now) <= self._max_restarts",
        "self.count(now) < self._max_restarts",
        "one_for_one_replaces_only",
    ),
    Mutant(
        "one restart too many",
        DECIDES,
        "self.count(now) <= self._max_restarts",
        "self.count(now) <= self._max_restarts + 1",
        "one_for_all_replaces_all",
    ),
    Mutant(
        "no restart is ever forgotten",
        DECIDES,
        "while self._restarts and",
        "while False and",
        "one_restart_in_each_period",
    ),
    Mutant(
        "a group restart counts for each child",
        HOST,
        "            await self._start(slot)\n        except trio.Cancelled:",
        "            self._window.allow(trio.current_time())\n"
        "            await self._start(slot)\n        except trio.Cancelled:",
        "one_for_all_replaces_all",
    ),
    Mutant(
        "a restart that fails is not counted again",
        HOST,
        "retry.is_allowed = self._window.allow(now)",
        "retry.is_allowed = 'in start' in str(retry.slot.error) or self._window.allow(now)",
        "a_restart_that_always_fails",
    ),
    Mutant(
        "restart_child counts",
        SUPERVISES,
        "return await self._start(self._find_down(child_id))",
        "self._window.allow(trio.current_time()); return await self._start(self._find_down(child_id))",
        "calls_are_free",
    ),
    # ---- who is restarted
    Mutant(
        "a permanent child stays down after it returned",
        DECIDES,
        "            return True\n        case Restart.TRANSIENT",
        "            return reason.kind is not ExitKind.NORMAL\n        case Restart.TRANSIENT",
        "permanent_child_is_always",
    ),
    Mutant(
        "a transient child is restarted after Shutdown",
        DECIDES,
        "            return reason.abnormal\n",
        "            return reason.kind is not ExitKind.NORMAL\n",
        "transient_child_that_ends_normally",
    ),
    Mutant(
        "a temporary child is restarted after a crash",
        DECIDES,
        "        case Restart.TEMPORARY:\n            return False",
        "        case Restart.TEMPORARY:\n            return reason.abnormal",
        "temporary_child_is_forgotten",
    ),
    Mutant(
        "a nursery of the child's own makes its Shutdown a crash",
        DECIDES,
        "leaves = list(_leaves(error))",
        "leaves = [error]",
        "hides_no_shutdown",
    ),
    Mutant(
        "one Shutdown hides all crashes beside it",
        DECIDES,
        "if not all(isinstance(leaf",
        "if not any(isinstance(leaf",
        "group_ends_a_child",
    ),
    Mutant(
        "to give up is to crash",
        DECIDES,
        "isinstance(leaf, Shutdown | RestartLimitError)",
        "isinstance(leaf, Shutdown)",
        "transient_supervisor_that_gave_up",
    ),
    Mutant(
        "SystemExit is a crash",
        HOST,
        "if ends_program(life.error):\n            self._lose",
        "if False:\n            self._lose",
        "ends_the_program",
    ),
    # ---- who goes down with whom
    Mutant(
        "rest_for_one takes all down",
        DECIDES,
        "return children[children.index(ended) + 1 :]",
        "return [child for child in children if child != ended]",
        "rest_for_one_replaces",
    ),
    Mutant(
        "rest_for_one takes down those before",
        DECIDES,
        "return children[children.index(ended) + 1 :]",
        "return children[: children.index(ended)]",
        "rest_for_one_replaces",
    ),
    Mutant(
        "one_for_all spares those before",
        DECIDES,
        "return [child for child in order if child != ended]",
        "return list(order)[list(order).index(ended) + 1 :]",
        "one_for_all_replaces_all",
    ),
    Mutant(
        "a group is stopped in start order",
        HOST,
        "for sibling in reversed(down):",
        "for sibling in down:",
        "start_in_order_and_stop_in_reverse",
    ),
    Mutant(
        "the child that fell is started before its elders",
        HOST,
        "return [other for key, other in self._slots.items() if key in again]",
        "return [slot, *(o for k, o in self._slots.items() if k in again and o is not slot)]",
        "one_for_all_replaces_all",
    ),
    Mutant(
        "a temporary sibling is revived",
        SUPERVISES,
        "if slot.spec.restart is Restart.TEMPORARY and self._has(slot):",
        "if False:",
        "temporary_child_stopped_for_a_sibling",
    ),
    Mutant(
        "a sibling that was down stays down",
        HOST,
        "down = [self._slots[key] for key in taken_down(self._flags.strategy, self._slots, slot.key)]",
        "down = [self._slots[k] for k in taken_down(self._flags.strategy, self._slots, slot.key)"
        " if self._slots[k].life]",
        "brings_back",
    ),
    Mutant(
        "rest_for_one tries again from the first child that fell",
        HOST,
        "                    self._lose(retry.slot)\n                return failed",
        "                    slot.retry = None\n                return retry.slot.fail(slot.error)",
        "rest_for_one_tries_again",
    ),
    Mutant(
        "a crash of a sibling that is taken down counts too",
        HOST,
        "            self._lay_to_rest(slot, slot.life.exit_reason)",
        "            self._window.allow(trio.current_time())\n"
        "            self._lay_to_rest(slot, slot.life.exit_reason)",
        "two_that_crash_together",
    ),
    Mutant(
        "nobody gets a turn while a restart fails",
        HOST,
        "retry = await self._restart(retry) if retry else None\n",
        "while retry is not None:\n                retry = await self._restart(retry)\n",
        "while_a_restart_fails_for_ever",
    ),
    Mutant(
        "a child that is being restarted cannot be stopped",
        HOST,
        "retry = await self._restart(retry) if is_due else None",
        "retry = await self._restart(retry)",
        "fails_for_ever_calls_are_answered",
    ),
    Mutant(
        "a child that is stopped while it is being restarted is reported a second time",
        HOST,
        "was_restarting, slot.retry = slot.is_restarting, None",
        "was_restarting = False",
        "wait_for_a_restart_is_over",
    ),
    Mutant(
        "a wait for a restart goes on for the next life",
        HOST,
        "is_due = retry.slot.retry is retry",
        "is_due = retry.slot.is_restarting",
        "ends_no_other_wait",
    ),
    Mutant(
        "a supervisor waits before it sees that it has to give up",
        HOST,
        "            if not self._allow(retry):\n                self._give_up(retry.slot)",
        "            if not self._allow(retry):\n"
        "                await trio.sleep(retry.seconds)\n"
        "                self._give_up(retry.slot)",
        "waits_between_restarts",
    ),
    Mutant(
        "siblings go on while a restart waits",
        HOST,
        "await self._take_down(retry.slot)  # siblings",
        "pass  # siblings",
        "count_once_also_if_the_restart_waits",
    ),
    Mutant(
        "siblings that wait for a restart are dead to auto_shutdown",
        HOST,
        "slot.retry is not None and slot.retry.is_allowed",
        "False",
        "alive_to_auto_shutdown",
    ),
    # ---- the end
    Mutant(
        "children are stopped in start order",
        SUPERVISES,
        "for slot in reversed(list(self._slots.values())):\n            await self._stop_child(slot)",
        "for slot in list(self._slots.values()):\n            await self._stop_child(slot)",
        "stop_in_reverse",
    ),
    Mutant(
        "children are all stopped at once",
        SUPERVISES,
        "for slot in reversed(list(self._slots.values())):\n            await self._stop_child(slot)",
        "for slot in reversed(list(self._slots.values())):\n            self._ask_to_stop(slot)",
        "being_cancelled_stops",
    ),
    Mutant(
        "dynamic children are stopped one after another",
        SUPERVISES,
        "            self._ask_to_stop(slot)\n"
        "        for slot in slots:\n"
        "            await self._wait_gone(slot)",
        "            await self._stop_child(slot)",
        "stop_at_the_same_time",
    ),
    Mutant(
        "being cancelled reaches all children at once",
        CHILD,
        "self._scope = trio.CancelScope(shield=True)",
        "self._scope = trio.CancelScope()",
        "being_cancelled_stops",
    ),
    Mutant(
        "a brutal kill is asked for",
        CHILD,
        'if spec.shutdown == "brutal_kill":',
        "if False:",
        "can_be_terminated_once",
    ),
    Mutant(
        "nobody is ever killed",
        CHILD,
        "self._kill_by(trio.current_time() + spec.stop_seconds)",
        "self._kill_by(math.inf)",
        "not_stop_in_time",
    ),
    Mutant(
        "work under grace that began before is not cut",
        CHILD,
        "            scope.deadline = at\n",
        "            pass\n",
        "work_that_is_going_on",
    ),
    Mutant(
        "work under grace is cut at once",
        CHILD,
        "with trio.CancelScope(shield=True, deadline=self._kill_at) as scope:",
        "with trio.CancelScope(deadline=self._kill_at) as scope:",
        "all_the_time_it_needs",
    ),
    Mutant(
        "a permanent child that returns when asked to stop is not reported",
        DECIDES,
        "return spec.restart is not Restart.PERMANENT and not reason.abnormal",
        "return not reason.abnormal",
        "keep_their_reasons",
    ),
    Mutant(
        "a brutal kill that works is reported",
        DECIDES,
        'asked_to = ExitKind.KILLED if spec.shutdown == "brutal_kill" else ExitKind.SHUTDOWN',
        "asked_to = ExitKind.SHUTDOWN",
        "brutal_kill_asks_nobody",
    ),
    Mutant(
        "a kill is nothing abnormal",
        DECIDES,
        "return self.kind in {ExitKind.CRASH, ExitKind.KILLED}",
        "return self.kind is ExitKind.CRASH",
        "r43_only",
    ),
    Mutant(
        "who gives up hides what the user raised",
        ENDING,
        "return 1  # it only",
        "return 3  # it only",
        "what_the_user_raises",
    ),
    Mutant(
        "a stuck child is waited for in silence",
        CHILD,
        "if self._task is not None and now >= self._stuck_at:",
        "if False:",
        "cannot_be_killed",
    ),
    # ---- Ctrl-C, and what else ends the program
    Mutant(
        "the first Ctrl-C while children stop kills",
        ENDING,
        "return len(self._interrupts) > 1",
        "return len(self._interrupts) > 0",
        "noted_and_the_second_kills",
    ),
    Mutant(
        "no Ctrl-C ever kills",
        HOST,
        "if self._ending.is_urgent:",
        "if False:",
        "noted_and_the_second_kills",
    ),
    Mutant(
        "Ctrl-C breaks off the stop of children",
        HOST,
        "            except KeyboardInterrupt as error:\n                self._end(error)",
        "            except KeyboardInterrupt as error:\n                return self._end(error)",
        "noted_and_the_second_kills",
    ),
    Mutant(
        "Ctrl-C while a child starts does not count",
        HOST,
        "if isinstance(reason, KeyboardInterrupt):",
        "if False:",
        "while_a_child_starts_gives_it_its_time",
    ),
    Mutant(
        "Ctrl-C in a child's code is not passed on before all has stopped",
        HOST,
        "self._status.escalate(error)",
        "pass",
        "the_second_one_kills_all_of_it",
    ),
    Mutant(
        "of two errors that end the program the last leaves",
        ENDING,
        "_gravity(error) > _gravity(first)",
        "_gravity(error) >= _gravity(first)",
        "the_first_leaves",
    ),
    Mutant(
        "a group with Ctrl-C in it is another Ctrl-C",
        ENDING,
        "for leaf in _leaves(error) if isinstance(leaf, KeyboardInterrupt)",
        "for leaf in [error] if ends_program(leaf)",
        "nursery_of_the_blocks_own",
    ),
    Mutant(
        "a quick child is seen out by a supervisor that is gone",
        HOST,
        "is_late = life.exit_reason is not None and self._nursery is None",
        "is_late = False",
        "quick_child_that_meets",
    ),
    # ---- auto_shutdown
    Mutant(
        "any child is significant",
        DECIDES,
        "            return ended.significant\n",
        "            return True\n",
        "not_significant",
    ),
    Mutant(
        "the first significant child counts for all",
        DECIDES,
        "return ended.significant and not any(other.significant for other in others)",
        "return ended.significant",
        "end_for_good",
    ),
    Mutant(
        "a significant child that is being restarted is dead",
        HOST,
        "return self.life is not None or self.starting is not None or self.is_restarting",
        "return self.running is not None",
        "being_restarted_counts_as_alive",
    ),
    Mutant(
        "terminate_child is the end of a significant child",
        HOST,
        "            self._report.shutdown_error(slot.spec, reason)\n        self._lose(slot)",
        "            self._report.shutdown_error(slot.spec, reason)\n        self._lose(slot)\n"
        "        if slot.spec.significant:\n            self._end(None)",
        "no_end_that_is_significant",
    ),
    # ---- starts
    Mutant(
        "a child that failed to start is kept",
        HOST,
        "            del self._slots[key]\n            raise",
        "            raise",
        "is_not_kept",
    ),
    Mutant(
        "a child that is not ready in time is not stopped",
        HOST,
        "        if not in_time:\n            await self._abandon(life, spec)\n",
        "        if not in_time:\n",
        "not_ready_in_time",
    ),
    Mutant(
        "a child whose starter was cancelled goes on",
        HOST,
        "                self._end(reason)\n            await self._abandon(life, spec)",
        "                self._end(reason)",
        "leaves_nothing_of_the_child",
    ),
    Mutant(
        "whoever says started too late is taken",
        CHILD,
        "if not self._scope.cancel_called:",
        "if True:",
        "after_it_was_stopped_has_not_started",
    ),
    Mutant(
        "a dynamic child that is being restarted gives up its place",
        SUPERVISES,
        "if len(self._slots) >= self._max_children:",
        "if sum(s.running is not None for s in self._slots.values()) >= self._max_children:",
        "holds_its_place",
    ),
    Mutant(
        "extra arguments come last",
        HOST,
        "spec.start(*self._arguments, *spec.args,",
        "spec.start(*spec.args, *self._arguments,",
        "extra_arguments",
    ),
    Mutant(
        "a dynamic child that ignores is kept",
        SUPERVISES,
        "        if self._has(slot):\n            del self._slots[slot.key]",
        "        pass",
        "dynamic_child_that_ignores",
    ),
    Mutant(
        "what a temporary child was started with is kept",
        HOST,
        "self.spec = replace(self.spec, args=())",
        "pass",
        "was_started_with",
    ),
    Mutant(
        "a significant child is accepted where nobody looks at it",
        DECIDES,
        "not spec.significant or auto_shutdown is not AutoShutdown.NEVER",
        "True",
        "nobody_looks_at_it",
    ),
    # ---- reports
    Mutant(
        "a transient supervisor that gave up stays down silently",
        HOST,
        "if isinstance(reason.error, RestartLimitError):",
        "if False:",
        "transient_supervisor_that_gave_up",
    ),
    Mutant(
        "the normal end of a permanent child is not reported",
        DECIDES,
        "return restart is Restart.PERMANENT or reason.abnormal",
        "return reason.abnormal",
        "permanent_child_is_always",
    ),
    Mutant(
        "a report is as long as what it tells",
        REPORTS,
        "return text if len(text) <= MAX_TEXT else",
        "return text if True else",
        "no_longer_than",
    ),
]


def plant(mutant: Mutant, source: str) -> None:
    """Import supervision anew, with a bug in the source of one room."""
    rooms = tuple(f"codex_actors.{room}" for room in ROOMS)
    for name in [name for name in sys.modules if name.startswith((*rooms, "tests."))]:
        del sys.modules[name]
    name = f"codex_actors.{mutant.room}"
    module = sys.modules[name] = ModuleType(name)
    exec(compile(source, f"{mutant.room} with a bug", "exec"), module.__dict__)


def find_tests(part_of_name: str) -> Iterator[Callable[..., Any]]:
    """Import the tests of that name."""
    for file in TESTS:
        if re.search(rf"def test_\w*{part_of_name}", (ROOT / f"{file}.py").read_text()):
            module = importlib.import_module(file.replace("/", "."))
            yield from (
                test
                for name, test in vars(module).items()
                if name.startswith("test_") and part_of_name in name
            )


def parameters(test: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """All that pytest would call a parametrized test with, but for fixtures."""
    choices = []
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names, values = mark.args
            if isinstance(names, str):
                choices.append([{names: value} for value in values])
            else:
                choices.append([dict(zip(names, value, strict=True)) for value in values])
    for choice in itertools.product(*choices):
        yield {name: value for part in choice for name, value in part.items()}


def run(test: Callable[..., Any]) -> None:
    """Run a test as pytest would, only faster."""
    for arguments in parameters(test):
        with structlog.testing.capture_logs() as logs:
            fixtures = {
                "autojump_clock": MockClock(autojump_threshold=0),
                "puppets": importlib.import_module("tests.otp.puppets").Puppets(),
                "logs": logs,
            }
            wanted = inspect.signature(test).parameters.keys()
            call = partial(test, **arguments, **{name: fixtures[name] for name in wanted & fixtures.keys()})
            if inspect.iscoroutinefunction(test):
                trio.run(call, clock=fixtures["autojump_clock"])
            else:
                call()


def verdict(mutant: Mutant) -> str:
    """What the tests say of a bug: ``green``, ``red`` or ``no such test``."""
    source = mutant.source()  # out here: a bug that cannot be planted is no bug that was seen
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what trio has to say of a program that breaks
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.alarm(WAIT_SECONDS)
        os._exit(_run_all(mutant, source))
    _, status = os.waitpid(pid, 0)
    return {0: "green", 2: "no such test"}.get(os.waitstatus_to_exitcode(status), "red")


def _run_all(mutant: Mutant, source: str) -> int:
    plant(mutant, source)
    tests = list(find_tests(mutant.seen_by))
    try:
        for test in tests:
            run(test)
    except BaseException:  # noqa: BLE001 - however it breaks, it is red
        return 1
    return 0 if tests else 2


if __name__ == "__main__":
    for file in TESTS:  # and with them all that they need, once and for all
        importlib.import_module(file.replace("/", "."))
    for each in MUTANTS:
        print(verdict(each), each.bug, sep="\t", flush=True)  # noqa: T201 - this is a program
