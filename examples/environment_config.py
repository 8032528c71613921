"""Take the configuration from the environment, once, and be told at the start what is wrong with it.

`REVIEWER_MODEL=gpt-5.5 REVIEWER_SANDBOX=read-only REVIEWER_KEY=... python environment_config.py`
"""

import os
import sys
from collections.abc import Mapping

import trio

from codex_actors import Codex, CodexOptions, Deadlines, ThreadOptions
from codex_actors.errors import OptionError

NAMES = ("KEY", "BASE_URL", "TURN_SECONDS", "MODEL", "SANDBOX", "EFFORT", "PROXY")


def read(variables: Mapping[str, str]) -> tuple[CodexOptions, ThreadOptions]:
    """The options; what is not set keeps its default.

    Raises:
        OptionError: A value cannot work.
        ValueError: A number is none.
    """
    given = {name: variables.get(f"REVIEWER_{name}") or None for name in NAMES}
    codex = CodexOptions(
        api_key=given["KEY"],  # None: CODEX_API_KEY, or the login
        base_url=given["BASE_URL"],
        deadlines=Deadlines(turn_seconds=float(given["TURN_SECONDS"] or 600)),
        inherit_env="allowlist",  # the model's commands do not see all that is in our environment
        env={"HTTPS_PROXY": given["PROXY"]} if given["PROXY"] else {},
    )
    thread = ThreadOptions(
        model=given["MODEL"],
        sandbox=given["SANDBOX"] or "read-only",  # type: ignore[arg-type]  # checked where it is used
        reasoning_effort=given["EFFORT"],
    )
    return codex, thread


async def main() -> None:
    try:
        codex_options, thread_options = read(os.environ)
    except (OptionError, ValueError) as error:
        sys.exit(f"bad configuration: {error}")
    print("model:", thread_options.model or "Codex's default", "sandbox:", thread_options.sandbox)
    print("key:", "given" if codex_options.api_key else "Codex's own")  # a repr would not show it either
    async with Codex(codex_options) as codex:
        print((await codex.start_thread(thread_options).run("What is here?")).final_response)


if __name__ == "__main__":
    trio.run(main)
