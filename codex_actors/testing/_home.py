# A CODEX_HOME that makes the real binary silent and fast: no analytics (5 s at exit when offline), no
# plugin download, no shell snapshot, and a model provider of our own, because the built-in one first
# tries WebSockets.

import json
from collections.abc import Mapping
from pathlib import Path

from codex_actors._data import Data

_CONFIG = """\
model = {model}
model_provider = "scripted"
analytics.enabled = false
features.plugins = false
features.apps = false
features.shell_snapshot = false
{settings}
[model_providers.scripted]
name = "scripted"
base_url = {base_url}
env_key = "CODEX_API_KEY"
wire_api = "responses"
request_max_retries = {request_max_retries}
stream_max_retries = {stream_max_retries}
stream_idle_timeout_ms = {stream_idle_timeout_ms}
"""


class CodexHome(Data, frozen=True, kw_only=True):
    """A CODEX_HOME on disk and what a Codex that uses it needs in its environment.

    Attributes:
        path: The directory.
        environment: CODEX_HOME, a dummy CODEX_API_KEY, and a TMPDIR inside the home, so that whatever
            Codex leaves behind goes with it.
    """

    path: Path
    environment: Mapping[str, str]


def codex_home(
    path: Path,
    base_url: str,
    *,
    model: str = "gpt-5.5",
    request_max_retries: int = 0,
    stream_max_retries: int = 0,
    stream_idle_timeout_seconds: float = 30.0,
    settings: str = "",
) -> CodexHome:
    """Writes a CODEX_HOME that points Codex to a scripted model, and to nothing else.

    Args:
        path: The directory to make; it must not hold a ``config.toml`` yet.
        base_url: `Scenario.url`.
        model: Its tools depend on this name; the builders here speak those of ``gpt-5.5``.
        request_max_retries: How often Codex repeats a request that was refused with 5xx.
        stream_max_retries: How often Codex asks anew after a failure, each with a notice; its own
            default is 5, which takes 6 seconds.
        stream_idle_timeout_seconds: How long Codex bears a silent stream.
        settings: More lines of ``config.toml``, tables last.

    Raises:
        FileExistsError: There is a ``config.toml`` already.
    """
    temporary = path / "tmpdir"
    temporary.mkdir(parents=True)
    config = _CONFIG.format(
        model=json.dumps(model),
        base_url=json.dumps(base_url),
        request_max_retries=request_max_retries,
        stream_max_retries=stream_max_retries,
        stream_idle_timeout_ms=round(stream_idle_timeout_seconds * 1000),
        settings=settings,
    )
    (path / "config.toml").write_text(config)
    environment = {"CODEX_HOME": str(path), "CODEX_API_KEY": "scripted", "TMPDIR": str(temporary)}
    return CodexHome(path=path, environment=environment)
