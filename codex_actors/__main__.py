"""``python -m codex_actors``: the ``codex-actors`` command."""

import sys

from codex_actors.cli import main

if __name__ == "__main__":
    sys.exit(main())
