"""Whether miners are there: a connection that breaks and no word after it say that one is gone, long before its lease.

Only streams that were begun go by this: their clients are told at once (0060). Leases end by their clocks, as before.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GONE_AFTER_SECONDS = 1.2
"""A miner that lives has said something within this time after its connection broke: it tells its parts each second."""


class MinerPresence:
    """Knows the miners that broke off their wait in this process and were not heard of since."""

    def __init__(self, on_gone: Callable[[], None]) -> None:
        """`on_gone` is called when one is gone."""
        self._on_gone = on_gone
        self._suspected: dict[str, asyncio.TimerHandle] = {}
        self._gone: set[str] = set()

    @contextmanager
    def waiting(self, miner: str) -> Iterator[None]:
        """The miner waits here; a wait that is cancelled may mean that the miner is gone."""
        self.note_heard(miner)
        try:
            yield
        except asyncio.CancelledError:
            loop = asyncio.get_running_loop()
            if miner not in self._suspected:
                self._suspected[miner] = loop.call_later(GONE_AFTER_SECONDS, self._note_gone, miner)
            raise

    def note_heard(self, miner: str) -> None:
        """The miner said something."""
        timer = self._suspected.pop(miner, None)
        if timer is not None:
            timer.cancel()
        self._gone.discard(miner)

    def is_gone(self, miner: str) -> bool:
        """Whether the miner was lost, and did not come back."""
        return miner in self._gone

    def _note_gone(self, miner: str) -> None:
        self._suspected.pop(miner, None)
        self._gone.add(miner)
        self._on_gone()
