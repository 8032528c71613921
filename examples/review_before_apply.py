"""Let Codex work on a copy, look at what it did, and only then take it over.

`python review_before_apply.py "Fix the typo in README.md."` The copy is a git worktree of the last commit.
What Codex does there becomes a patch, and nothing else.
"""

import subprocess
import sys
from tempfile import TemporaryDirectory

from codex_actors import CodexError, ThreadOptions
from codex_actors.blocking import Codex


def git(*arguments: str, cwd: str = ".", given: str | None = None) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=cwd, input=given, check=True, stdout=subprocess.PIPE, text=True).stdout


def proposal(prompt: str) -> tuple[str, str]:
    """What Codex would change, as a patch, and what it says about it."""
    with TemporaryDirectory() as directory:
        git("worktree", "add", "--quiet", "--detach", directory)
        try:
            with Codex() as codex:
                thread = codex.start_thread(ThreadOptions(cwd=directory, sandbox="workspace-write"))
                answer = thread.run(prompt).final_response
            git("add", "--all", cwd=directory)
            return git("diff", "--cached", "--binary", cwd=directory), answer
        finally:
            git("worktree", "remove", "--force", directory)


def main() -> None:
    prompt = " ".join(sys.argv[1:]) or "Fix what is wrong in calc.py."
    try:
        patch, answer = proposal(prompt)
    except CodexError as error:
        sys.exit(f"nothing changed: {error}")
    print(answer, patch or "(no changes)", sep="\n\n")
    if patch and input("Apply? [y/N] ").strip().lower() == "y":
        git("apply", given=patch)
        print("applied")
    else:
        print("left as it was")


if __name__ == "__main__":
    main()
