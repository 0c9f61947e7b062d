"""What happens to a job, out of the server-sent events of its stream."""

from typing import Any

import msgspec
from msgspec import Struct

ENDS = ("succeeded", "failed", "canceled", "expired")


class JobNews(Struct, frozen=True, kw_only=True):
    """One thing that happened to a job."""

    id: str | None
    """Where it stands among the job's events; none for what is only the newest."""
    event: str
    """`state`, `attempt`, `log`, `part` (of the output's text), `progress` or `heartbeat`."""
    data: dict[str, Any]

    @property
    def is_end(self) -> bool:
        """Whether nothing happens to the job any more."""
        return self.event == "state" and self.data.get("state") in ENDS


class NewsReader:
    """Puts events together out of the lines of a stream."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self._event = "message"
        self._data: list[str] = []

    def feed(self, line: str) -> JobNews | None:
        """The event that ends with this line, if one does."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                self.last_id = value
            elif name == "event":
                self._event = value
            elif name == "data":
                self._data.append(value)
            return None
        event, data = self._event, "\n".join(self._data)
        self._event, self._data = "message", []
        if not data:
            return None
        return JobNews(id=self.last_id, event=event, data=msgspec.json.decode(data, type=dict[str, Any]))

    @property
    def headers(self) -> dict[str, str]:
        """What a connection that was lost is begun anew with."""
        accepted = {"Accept": "text/event-stream"}
        return accepted if self.last_id is None else accepted | {"Last-Event-ID": self.last_id}
