"""The miner's event log: lines for people or programs on stderr, and events as JSON lines on stdout where asked for."""

import json
import sys
from datetime import UTC, datetime
from typing import Any


class EventLog:
    """Writes one line for each event."""

    def __init__(self, *, json_events: bool = False) -> None:
        self._json_events = json_events
        self._for_people = sys.stderr.isatty()

    def note(self, event: str, **facts: Any) -> None:
        """One thing that happened, named `noun_verbed`; facts hold no secret."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"timestamp": at, "event": event, **facts}, ensure_ascii=True, default=str)
        if self._for_people:
            shown = "  ".join(f"{name}={json.dumps(value, default=str)}" for name, value in facts.items())
            sys.stderr.write(f"{at[11:19]}  {event:<22} {shown}\n")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
        if self._json_events:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
