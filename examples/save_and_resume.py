"""Go on with a conversation in another run of the program: `python save_and_resume.py "And now?"`.

All that has to be kept is the thread's id. What was said is on record in CODEX_HOME.
"""

import sys
from pathlib import Path

from codex_actors import ThreadOptions
from codex_actors.blocking import Codex, Thread
from codex_actors.errors import ThreadNotFoundError

SAVED = Path("thread.txt")
OPTIONS = ThreadOptions(sandbox="read-only")


def saved_thread(codex: Codex) -> Thread:
    if not SAVED.exists():
        print("a new conversation")
        return codex.start_thread(OPTIONS)
    thread_id = SAVED.read_text().strip()
    print("going on with", thread_id)
    return codex.resume_thread(thread_id, OPTIONS)


def main() -> None:
    prompt = " ".join(sys.argv[1:]) or "Remember the number 7."
    with Codex() as codex:
        thread = saved_thread(codex)
        try:
            with thread.run_streamed(prompt) as turn:
                next(turn)  # Codex has named the thread: should we be interrupted now, it can be resumed
                SAVED.write_text(f"{turn.thread_id}\n")
                print(turn.wait_result().final_response)
        except ThreadNotFoundError:
            SAVED.unlink()
            print("that conversation is not on record any more; the next run begins a new one")


if __name__ == "__main__":
    main()
