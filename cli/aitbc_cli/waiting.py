"""Waiting until a graph or a study has ended, whatever happens to the server meanwhile."""

import time
from collections.abc import Callable, Collection
from typing import Any

from aitbc_cli.client import part
from aitbc_cli.command import Call
from aitbc_cli.exits import INTERRUPTED, TIMED_OUT, UNAVAILABLE, Stop
from aitbc_cli.terminal import progress

LOOK_SECONDS = 0.5
UNREACHABLE_SECONDS = 120.0
"""How long a server may be away that answered before, as while it restarts."""
PATHS = {"graph": "/api/v1/ai/graphs", "study": "/api/v1/ai/studies"}


def wait_until_over(
    call: Call, noun: str, id_: str, *, over: Collection[str], describe: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    """A graph or a study once its state is one of those in which it is over; `describe` says how far it is.

    Raises `Stop` when the time is up, and for Ctrl-C.
    """
    end = None if call.seconds is None else time.monotonic() + call.seconds
    answered: float | None = None
    hint = f"come back with: aitbc {noun} wait {id_}   stop it with: aitbc {noun} cancel {id_}"
    try:
        with progress(f"waiting for {id_}") as shown:
            while True:
                try:
                    answer: dict[str, Any] = call.api.get(f"{PATHS[noun]}/{part(id_)}")
                    answered = time.monotonic()
                    if answer["state"] in over:
                        return answer
                    shown.update(f"{id_} is {answer['state']}: {describe(answer)}")
                except Stop as problem:
                    is_away = problem.exit_code == UNAVAILABLE and answered is not None
                    if not is_away or time.monotonic() - (answered or 0.0) > UNREACHABLE_SECONDS:
                        raise
                if end is not None and time.monotonic() > end:
                    raise Stop(f"{id_} has not ended; it goes on", exit_code=TIMED_OUT, code="timed_out", hint=hint)
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        raise Stop(f"detached; {id_} goes on", exit_code=INTERRUPTED, code="interrupted", hint=hint) from None
