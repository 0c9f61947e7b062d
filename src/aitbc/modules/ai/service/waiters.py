"""Those who wait in this process: miners for work, clients for a change of a job. No task for any of them."""

import asyncio
import bisect
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import Capabilities, Claim
from aitbc.modules.ai.models.queue import Needs, explores, matches


class WaitingMiner:
    """A claim that found nothing: a future, and the little that is needed to choose among several."""

    __slots__ = ("account", "future", "key", "name", "newcomer", "order", "slots")

    def __init__(self, key: bytes, claim: Claim, number: int, *, behind: bool) -> None:
        self.key = key
        self.name = claim.miner
        self.account = claim.miner_account
        self.newcomer = claim.newcomer
        self.slots = claim.slots
        self.order = (behind, -round(claim.reputation, 1), number)
        self.future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """True once it is worth asking again, false when the time is up."""


class _Group:
    """Waiting miners with equal capabilities: the proven by reputation, newcomers beside them, both then by arrival."""

    __slots__ = ("capabilities", "fresh", "proven")

    def __init__(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self.proven: list[WaitingMiner] = []
        self.fresh: list[WaitingMiner] = []

    def queue_of(self, miner: WaitingMiner) -> list[WaitingMiner]:
        return self.fresh if miner.newcomer else self.proven


class WaitingMiners:
    """Wakes as many miners as there are jobs for, and only those that can take them."""

    def __init__(self, short_of_gpus: set[str] | None = None) -> None:
        self._groups: dict[bytes, _Group] = {}
        self._by_owner: dict[str, set[WaitingMiner]] = defaultdict(set)
        self._short = set() if short_of_gpus is None else short_of_gpus
        """Miners whose GPUs were not enough when they last asked: they are not woken for jobs that ask for some."""
        self._arrived = 0

    def __len__(self) -> int:
        return sum(len(group.proven) + len(group.fresh) for group in self._groups.values())

    def enter(self, claim: Claim, *, behind: bool = False) -> WaitingMiner:
        """Wait for work: the future is done when it is worth asking again.

        One that was woken and could not take anything (it asks more than the job may cost) comes `behind` the others.
        """
        key = msgspec.json.encode(claim.capabilities, order="deterministic")
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(claim.capabilities)
        self._arrived += 1
        miner = WaitingMiner(key, claim, self._arrived, behind=behind)
        bisect.insort(group.queue_of(miner), miner, key=lambda waiting: waiting.order)
        self._by_owner[miner.account].add(miner)
        return miner

    def leave(self, miner: WaitingMiner) -> None:
        """Wait no longer. One that was woken and does not ask again hands its turn on, so that no job is forgotten."""
        if miner.future.done() and not miner.future.cancelled() and miner.future.result():
            group = self._groups.get(miner.key)
            heads = [*group.proven[:1], *group.fresh[:1]] if group is not None else []
            if heads:
                self._wake(min(heads, key=lambda waiting: waiting.order))
        else:
            self._remove(miner)

    def recall(self, name: str) -> None:
        """Let a miner ask anew: what it may have has changed since it began to wait."""
        self._short.discard(name)
        for group in list(self._groups.values()):
            for miner in [one for one in (*group.proven, *group.fresh) if one.name == name]:
                self._remove(miner)
                if not miner.future.done():
                    miner.future.set_result(False)

    def wake(self, name: str) -> None:
        """A GPU of this miner is free again: it looks whether a waiting job asks for it."""
        self._short.discard(name)
        for group in list(self._groups.values()):
            for miner in [one for one in (*group.proven, *group.fresh) if one.name == name]:
                self._wake(miner)

    def _remove(self, miner: WaitingMiner) -> None:
        group = self._groups.get(miner.key)
        if group is None:
            return
        queue = group.queue_of(miner)
        at = bisect.bisect_left(queue, miner.order, key=lambda waiting: waiting.order)
        if at < len(queue) and queue[at] is miner:
            del queue[at]
            self._by_owner[miner.account].discard(miner)
            if not self._by_owner[miner.account]:
                del self._by_owner[miner.account]
        if not group.proven and not group.fresh:
            del self._groups[miner.key]

    def _wake(self, miner: WaitingMiner) -> None:
        self._remove(miner)
        if not miner.future.done():
            miner.future.set_result(True)

    def offer(self, jobs: Iterable[tuple[Needs, str, str]]) -> None:
        """Jobs, each with its account, can be taken: wake one slot for each, one of that account's own miners first,
        and a newcomer's for those of the newcomers' share.
        """
        spare: dict[bytes, int] = defaultdict(int)
        for needs, job, account in jobs:
            if account in self._by_owner and self._wake_own(needs, account):
                continue
            self._wake_for(needs, spare, exploring=explores(ids.decode("job", job)))

    def offer_copies(self, needs: Needs, barred: Collection[str], count: int) -> None:
        """So many miners can answer a quorum's job, each of another owner and of none that is `barred`: wake a slot of
        each.
        """
        owners, short = set(barred), self._short if needs.gpus else frozenset[str]()
        for _ in range(count):
            queues = [
                queue
                for group in self._groups.values()
                if matches(needs, group.capabilities)
                for queue in (group.proven, group.fresh)
            ]
            heads = (
                next((one for one in queue if one.account not in owners and one.name not in short), None)
                for queue in queues
            )
            found = min((one for one in heads if one is not None), key=lambda one: one.order, default=None)
            if found is None:
                return
            owners.add(found.account)
            self._wake(found)

    def offer_count(self, needs: Needs, count: int) -> None:
        """So many jobs with these needs can be taken, whatever their ids.

        GPUs may be free again of which nothing was heard here, so that no miner is passed over for want of them.
        """
        spare: dict[bytes, int] = defaultdict(int)
        for _ in range(count):
            if not self._wake_for(needs, spare, exploring=False, passes_over=False):
                return

    def _wake_own(self, needs: Needs, account: str) -> bool:
        """Wake a waiting miner of this account that fits; whether there was one."""
        own = [one for one in self._by_owner[account] if matches(needs, self._groups[one.key].capabilities)]
        short = self._short if needs.gpus else frozenset[str]()
        found = min((one for one in own if one.name not in short), key=lambda one: one.order, default=None)
        if found is not None:
            self._wake(found)
        return found is not None

    def _wake_for(self, needs: Needs, spare: dict[bytes, int], *, exploring: bool, passes_over: bool = True) -> bool:
        fitting = [key for key, group in self._groups.items() if matches(needs, group.capabilities)]
        for key in fitting:
            if (
                spare[key] and not exploring and not needs.gpus
            ):  # a miner that was just woken has a slot left for this one
                spare[key] -= 1
                return True
        short = self._short if needs.gpus and passes_over else frozenset[str]()
        found = self._choose(fitting, short, exploring=exploring)
        if found is None:
            return False
        spare[found.key] += found.slots - 1
        self._wake(found)
        return True

    def _choose(self, keys: Sequence[bytes], short: Collection[str], *, exploring: bool) -> WaitingMiner | None:
        groups = [self._groups[key] for key in keys]
        proven = [found for group in groups if (found := _first(group.proven, short))]
        fresh = [found for group in groups if (found := _first(group.fresh, short))]
        heads = (fresh or proven) if exploring else (proven or fresh)
        return min(heads, key=lambda miner: miner.order, default=None)

    def wake_all(self) -> None:
        """Everybody asks again: the process is about to stop."""
        for group in list(self._groups.values()):
            for miner in [*group.proven, *group.fresh]:
                self._wake(miner)


def _first(queue: Sequence[WaitingMiner], short: Collection[str]) -> WaitingMiner | None:
    """The first in a queue that is not among these; nearly always the first."""
    return next((miner for miner in queue if miner.name not in short), None)


class WatchedJobs:
    """Wakes those who wait for a change of a job."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return len(self._watchers)

    @property
    def jobs(self) -> list[str]:
        """The jobs that somebody waits for."""
        return list(self._watchers)

    def watch(self, job: str) -> asyncio.Future[None]:
        """A future that is done when something about a job changes.

        Take it before reading the job, so that no change falls between.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(job, set()).add(future)
        return future

    def unwatch(self, job: str, future: asyncio.Future[None]) -> None:
        """Watch no longer."""
        watchers = self._watchers.get(job)
        if watchers is not None:
            watchers.discard(future)
            if not watchers:
                del self._watchers[job]

    def notify(self, jobs: Iterable[str]) -> None:
        """Something about these jobs has changed."""
        for job in jobs:
            for future in self._watchers.pop(job, ()):
                if not future.done():
                    future.set_result(None)

    def wake_all(self) -> None:
        """Everybody looks again."""
        self.notify(self.jobs)


class WatchedLeases:
    """Wakes miners that wait for the end of a lease."""

    def __init__(self) -> None:
        self._watches: dict[asyncio.Future[bool], Mapping[str, str]] = {}
        self._by_job: dict[str, set[asyncio.Future[bool]]] = {}

    def __len__(self) -> int:
        return len(self._watches)

    @property
    def attempts(self) -> dict[str, str]:
        """The leases that somebody waits for, with their jobs."""
        return {attempt: job for watch in self._watches.values() for attempt, job in watch.items()}

    def watch(self, leases: Mapping[str, str]) -> "asyncio.Future[bool]":
        """A future that is true when one of these leases may have ended; they are given with their jobs."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._watches[future] = leases
        for job in leases.values():
            self._by_job.setdefault(job, set()).add(future)
        return future

    def unwatch(self, future: "asyncio.Future[bool]") -> None:
        """Watch no longer."""
        for job in self._watches.pop(future).values():
            watchers = self._by_job.get(job)
            if watchers is not None:
                watchers.discard(future)
                if not watchers:
                    del self._by_job[job]

    def notify(self, jobs: Iterable[str]) -> bool:
        """Leases of these jobs have ended; answers whether somebody waited for one of them."""
        futures = [future for job in jobs for future in self._by_job.get(job, ())]
        for future in futures:
            if not future.done():
                future.set_result(True)
        return bool(futures)

    def wake_all(self) -> None:
        """Everybody looks again."""
        self.notify(list(self._by_job))
