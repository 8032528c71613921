"""Have files written, and see which: Codex works in its own directory and nowhere else."""

from pathlib import Path
from tempfile import TemporaryDirectory

from codex_actors import SideEffects, ThreadOptions, TurnResult
from codex_actors.blocking import Codex
from codex_actors.items import FileChange

PROMPT = "Write a module greeting.py with a function greet(name), and delete old.txt."


def changes(result: TurnResult) -> list[str]:
    """What the turn did to which file, in order; patches that failed did nothing."""
    return [
        f"{change.kind:6} {Path(change.path).name}"
        for item in result.items
        if isinstance(item, FileChange) and item.status == "completed"
        for change in item.changes
    ]


def main() -> None:
    with TemporaryDirectory() as directory:
        Path(directory, "old.txt").write_text("not needed any more\n")
        options = ThreadOptions(
            cwd=directory,
            sandbox="workspace-write",  # commands and patches may write below `cwd`
            skip_git_repo_check=True,  # a temporary directory needs no way back
        )
        with Codex() as codex:
            result = codex.start_thread(options).run(PROMPT)
        print(*changes(result), sep="\n")
        # A command may write too, and no item says what: so look, where it matters.
        print("side effects seen:", result.side_effects is SideEffects.SEEN)
        print("there now:", *sorted(path.name for path in Path(directory).iterdir() if path.is_file()))
        print(Path(directory, "greeting.py").read_text())


if __name__ == "__main__":
    main()
