"""Watch the commands of a turn, and know whether the tests passed: by exit status, not by hearsay."""

import re
import sys
import time

from codex_actors import ThreadOptions
from codex_actors.blocking import Codex
from codex_actors.events import ItemCompleted, ItemStarted
from codex_actors.items import CommandExecution

RUNS_TESTS = re.compile(r"\b(pytest|unittest|nox|tox|npm test|cargo test|go test)\b")
PROMPT = "Run the tests with `python3 -m unittest`, and make them pass."


def main() -> None:
    tests_passed: bool | None = None  # nobody has run them
    began: dict[str, float] = {}
    with Codex() as codex:
        thread = codex.start_thread(ThreadOptions(sandbox="workspace-write"))
        with thread.run_streamed(PROMPT) as turn:
            for event in turn:
                match event:
                    case ItemStarted(item=CommandExecution() as begun):
                        began[begun.id] = time.monotonic()
                        print("$", begun.command)
                    case ItemCompleted(item=CommandExecution(exit_code=status) as ran):
                        seconds = time.monotonic() - began.get(ran.id, time.monotonic())
                        last = (ran.aggregated_output.strip().splitlines() or ["(no output)"])[-1]
                        outcome = "ok" if status == 0 else f"failed, status {status}"
                        print(f"  {outcome}, {seconds:.1f} s: {last}")
                        if RUNS_TESTS.search(ran.command):
                            tests_passed = status == 0  # the last run counts
                    case _:
                        pass
    print(turn.result.final_response)
    print("tests:", {None: "were not run", True: "passed", False: "failed"}[tests_passed])
    sys.exit(0 if tests_passed else 1)


if __name__ == "__main__":
    main()
