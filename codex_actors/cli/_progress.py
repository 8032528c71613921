# Where a turn stands, for any view: the lines that events are worth, and what is going on now. Pure; a
# view brings the time.

from codex_actors.cli._describe import describe, duration, in_progress
from codex_actors.events import Event, ItemCompleted, ItemStarted, ItemUpdated, TurnCompleted, TurnStarted

# Shorter than this, how long something took is no news.
_WORTH_SAYING_SECONDS = 1.0


class Progress:
    """Follows the events of a turn."""

    def __init__(self, now: float) -> None:
        self.started_at = now
        self._state = "starting Codex"
        self._running: dict[str, tuple[str, float]] = {}

    def take(self, event: Event, now: float) -> str | None:
        """Take an event and return its text; None if it is worth none."""
        text = describe(event)
        match event:
            case ItemStarted(item=item) | ItemUpdated(item=item):
                name, since = in_progress(event), self._running.get(item.id, ("", now))[1]
                if name:
                    self._running[item.id] = name, since
            case ItemCompleted(item=item):
                _, since = self._running.pop(item.id, ("", now))
                return _with_time(text, now - since)
            case TurnStarted():
                self._state = "thinking"
            case TurnCompleted():
                self._state = "ending"
            case _:
                pass
        return text

    @property
    def now_doing(self) -> str:
        """What is going on."""
        names = [name for name, _ in self._running.values()]
        return ", ".join(names) or self._state


def _with_time(text: str | None, seconds: float) -> str | None:
    if text is None or seconds < _WORTH_SAYING_SECONDS:
        return text
    first, newline, rest = text.partition("\n")
    return f"{first}  {duration(seconds)}{newline}{rest}"
