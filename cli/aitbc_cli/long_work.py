"""Work of many jobs that goes on by itself, such as a graph or a study: what the commands of each sort share."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from aitbc_cli.client import part
from aitbc_cli.command import Call
from aitbc_cli.exits import INTERRUPTED, TIMED_OUT, UNAVAILABLE, Stop
from aitbc_cli.output import Column, columns
from aitbc_cli.terminal import progress

LOOK_SECONDS = 0.5
UNREACHABLE_SECONDS = 120.0
"""How long a server may be away that answered before, as while it restarts."""


@dataclass(frozen=True, kw_only=True)
class LongWork:
    """A sort of work: where it is in the API, how it is shown, and how its end is told."""

    noun: str
    """Its word among commands. For example `graph`."""
    path: str
    brief: Sequence[Column]
    full: Sequence[Column]
    parts: str
    """The field with its parts, shown under it, each with `part_columns`, the first of which is its name."""
    part_columns: Sequence[Column]
    over: Collection[str]
    """The states in which it has ended."""
    describe: Callable[[dict[str, Any]], str]
    """How far it is, in a few words."""
    tell_end: Callable[[dict[str, Any]], int]
    """Says what an end means, if that is not plain; the exit code."""

    def get(self, call: Call, id_: str) -> dict[str, Any]:
        """One of them with its parts."""
        answer: dict[str, Any] = call.api.get(self.path_of(id_))
        return answer

    def path_of(self, id_: str) -> str:
        """Where one of them is."""
        return f"{self.path}/{part(id_)}"

    def change(self, call: Call, id_: str, act: str) -> None:
        """Pause, resume or cancel one, and show what it is now."""
        path = self.path_of(id_)
        call.out.one(call.change("POST", f"{path}/{act}", natural=True, look=path), self.brief)

    def show(self, call: Call, found: dict[str, Any]) -> None:
        """Show one with its parts."""
        if not call.out.is_for_people or call.options.fields:
            call.out.one(found, (*self.full, *columns(self.parts)))
            return
        call.out.one(found, self.full)
        call.out.text("")
        call.out.rows(found[self.parts], self.part_columns, name=self.part_columns[0].field)

    def wait(self, call: Call, id_: str) -> int:
        """Wait until one has ended and show it, whatever happens to the server meanwhile; answers the exit code.

        Raises `Stop` when the time is up, and for Ctrl-C.
        """
        found = self._wait(call, id_)
        self.show(call, found)
        return self.tell_end(found)

    def _wait(self, call: Call, id_: str) -> dict[str, Any]:
        end = None if call.seconds is None else time.monotonic() + call.seconds
        answered: float | None = None
        hint = f"come back with: aitbc {self.noun} wait {id_}   stop it with: aitbc {self.noun} cancel {id_}"
        try:
            with progress(f"waiting for {id_}") as shown:
                while True:
                    try:
                        answer = self.get(call, id_)
                        answered = time.monotonic()
                        if answer["state"] in self.over:
                            return answer
                        shown.update(f"{id_} is {answer['state']}: {self.describe(answer)}")
                    except Stop as problem:
                        is_away = problem.exit_code == UNAVAILABLE and answered is not None
                        if not is_away or time.monotonic() - (answered or 0.0) > UNREACHABLE_SECONDS:
                            raise
                    if end is not None and time.monotonic() > end:
                        raise Stop(f"{id_} has not ended; it goes on", exit_code=TIMED_OUT, code="timed_out", hint=hint)
                    time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            raise Stop(f"detached; {id_} goes on", exit_code=INTERRUPTED, code="interrupted", hint=hint) from None
