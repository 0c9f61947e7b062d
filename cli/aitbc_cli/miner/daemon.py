"""The miner daemon (`aitbc miner run`): poll, heartbeat and check loops around tasks that work on leases.

A result is on the disk before it is delivered, so that no restart loses one.
"""

import asyncio
import functools
import signal
import sys
from collections import Counter
from contextlib import suppress
from typing import Any

from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc_cli.miner.client import (
    ENDED,
    HEARTBEAT,
    LEASES,
    REJECTIONS,
    WORK,
    MinerClient,
    Refused,
    Unreachable,
    backoff_seconds,
    rejected,
)
from aitbc_cli.miner.cluster.choice import Cluster, cluster_of
from aitbc_cli.miner.edge.run import edge_of
from aitbc_cli.miner.enrolment import enrolled
from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.executors.cgroup import make_room
from aitbc_cli.miner.executors.fields import FieldError
from aitbc_cli.miner.executors.gpu_canary import interpreters
from aitbc_cli.miner.executors.pool import ExecutorPool
from aitbc_cli.miner.executors.work import PROGRAMS
from aitbc_cli.miner.home import Home
from aitbc_cli.miner.hours import Hours, Idleness
from aitbc_cli.miner.inventory import capabilities, inventory
from aitbc_cli.miner.kinds import Kinds
from aitbc_cli.miner.machines.keeper import MachineKeeper
from aitbc_cli.miner.metrics_page import MetricsPage
from aitbc_cli.miner.nvml import Nvml
from aitbc_cli.miner.options import MinerFailed, Options
from aitbc_cli.miner.parts_sender import PartsSender
from aitbc_cli.miner.poll_session import POLL_SECONDS, PollSession
from aitbc_cli.miner.prover import Prover
from aitbc_cli.miner.serving.host import host_of
from aitbc_cli.miner.task import Task, deliver
from aitbc_cli.miner.xid import Xid, XidWatch

TIMER_SECONDS = 0.01
"""How much too early a timer may be."""
READINGS_EVERY = 6
"""Every so many heartbeats carry fresh readings of a machine without a GPU; with one, each does."""
WATCH_AFTER_SECONDS = 0.5
"""How old work is when its lease begins to be watched: shorter work costs no request more."""
LEAVING_SECONDS = 5.0


class Daemon:
    """One miner at work."""

    def __init__(self, options: Options, home: Home, event_log: EventLog) -> None:
        self._options = options
        self._home = home
        self._event_log = event_log
        self._nvml = Nvml()
        self._models = host_of(options.kinds, slots=options.slots, folder=home.folder, note=event_log.note)
        self._pool = ExecutorPool(
            slots=options.slots,
            kinds=options.kinds,
            scratch=home.work,
            nvml=self._nvml,
            models=self._models,
            cluster=cluster_of(options, home.folder),
        )
        self._pool.on_gpus_changed = self._tell_gpus
        self._xids = XidWatch(self._on_xid)
        self._hours = Hours(options.schedule)
        self._idleness = Idleness() if options.only_when_idle else None
        self._tasks: dict[str, tuple[Task, asyncio.Task[None]]] = {}
        self._kinds = Kinds(self._pool, options.kinds, event_log)
        machines = None if options.slurm else options.kinds.get("container")
        self._machines = MachineKeeper(machines, home, self._pool.gpus, event_log)
        self._metrics = MetricsPage(options.slots, lambda: len(self._tasks), lambda: self._kinds.usable)
        if self._models is not None:
            self._metrics.loaded = lambda: self._models.loaded if self._models is not None else ()
            self._models.on_change = functools.partial(self._kinds.check_soon, "chat")
        self._free = asyncio.Event()
        self._stopping = asyncio.Event()
        self._stop_at_once = asyncio.Event()
        self._failure: MinerFailed | None = None
        self._heartbeat_seconds = 10.0
        self._miner = ""
        self._session = PollSession()
        self._client = MinerClient(options.url)
        self._parts_sender = PartsSender(self._client)
        self._offered: dict[str, Any] | None = None
        """The capabilities that the server has."""
        self._beside: list[asyncio.Task[None]] = []
        self._watch_now = asyncio.Event()
        """Work has become old enough to be watched."""

    async def run(self) -> int:
        """Work until a signal; gives the exit code. Raises `MinerFailed`."""
        self._loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            await self._start()
            await self._work()
        finally:
            await self._machines.stop()
            await self._pool.stop()
            await self._client.close()
            await asyncio.to_thread(self._xids.stop)
            self._nvml.close()
        if self._failure is not None:
            raise self._failure
        self._event_log.note("miner_stopped")
        return 0

    def _on_signal(self) -> None:
        """The first signal lets running work end, the second does not."""
        if self._stopping.is_set():
            self._stop_at_once.set()
        self._stopping.set()

    # Start: check what can be done here, enrol, deliver and release what an earlier run left

    async def _start(self) -> None:
        await asyncio.to_thread(self._xids.start)
        self._look()  # programs are tried on the GPUs that there are
        await self._unless_stopped(self._kinds.start())
        found = self._look()
        credentials = await self._unless_stopped(enrolled(self._options, self._home, found, self._offer(found)))
        await self._client.close()
        self._client = MinerClient(credentials["url"], credentials["api_key"])
        self._parts_sender = PartsSender(self._client)
        self._miner = credentials["miner"]
        self._heartbeat_seconds = float(credentials["heartbeat_seconds"])
        if (edge := self._options.edge) is not None:  # it serves also while the server cannot be reached
            serve = edge_of(edge, self._home, self._pool, self._event_log)
            self._beside.append(asyncio.create_task(serve(self._client, self._miner, lambda: self._kinds.work)))
        self._event_log.note(
            "miner_started",
            miner=self._miner,
            url=credentials["url"],
            slots=self._options.slots,
            kinds=self._kinds.work["kinds"],
            models=self._kinds.work["models"],
        )
        await self._unless_stopped(self._send_capabilities())
        await self._unless_stopped(self._recover())

    async def _unless_stopped(self, work: Any) -> Any:
        """The outcome of what may take long. A signal ends it: raises `MinerFailed`."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise MinerFailed("stopped before it could begin to work", 130)
        return task.result()

    def _look(self) -> dict[str, Any]:
        """What is here now. A GPU that programs cannot use, while they can use another, is at fault."""
        found = inventory(self._home.folder, self._nvml)
        gpus = self._pool.gpus
        gpus.update(found["devices"])
        self._metrics.devices = found["devices"]
        gpus.mark(found["devices"], are_given=self._pool.gives_gpus)
        return found

    def _on_xid(self, xid: Xid) -> None:
        """In the thread that waits for events: have it noted and, where the hardware failed, told at once."""
        self._loop.call_soon_threadsafe(self._note_xid, xid)

    def _note_xid(self, xid: Xid) -> None:
        self._event_log.note("gpu_error", gpu=xid.uuid, error=str(xid), hardware=xid.is_hardware)
        self._pool.gpus.note_xid(xid)
        if xid.is_hardware:
            self._kinds.announce_again()

    async def _tell_gpus(self) -> None:
        """Say at once what has become of the GPUs; a refusal ends the miner at the next heartbeat."""
        if self._miner:
            with suppress(MinerFailed):
                await self._heartbeat(with_readings=True)

    def _offer(self, found: dict[str, Any]) -> dict[str, Any]:
        work = self._kinds.work
        if not self._pool.gives_gpus and PROGRAMS & {*work["kinds"]} and "chat" not in work["kinds"]:
            found = found | {"devices": [device for device in found["devices"] if device["type"] == "cpu"]}
        machine = self._machines.offer(self._kinds.status("container"))
        return capabilities(found, work, self._options.region) | {"machine": machine}

    async def _send_capabilities(self) -> None:
        """Send what is offered, if the server does not have it."""
        offer = self._offer(await asyncio.to_thread(self._look))
        if offer == self._offered:
            return
        try:
            await self._client.call_until_answered(
                "PUT", f"/gpu/miners/{self._miner}/capabilities", offer, expects={"id": str}
            )
        except Refused as refused:
            raise rejected(refused) from None
        self._offered = offer

    async def _recover(self) -> None:
        """Deliver the results that an earlier run left undelivered, and release its leases."""
        undelivered = self._home.undelivered()
        for attempt, body in undelivered.items():
            self._event_log.note("delivery_resumed", attempt=attempt)
            await deliver(self._client, self._home, self._event_log, attempt, body)
        if self._pool.cluster is not None:
            await self._resume(self._pool.cluster)
        await self._release_unknown("miner_restarted")

    async def _resume(self, cluster: Cluster) -> None:
        """Wait again for the jobs of a cluster whose leases live, and have the others canceled."""
        leases = (await self._client.call_until_answered("GET", "/gpu/leases", expects=LEASES))["leases"]
        live = [lease for lease in leases if lease["kind"] in cluster.kinds]
        await cluster.keep_only([lease["attempt"] for lease in live])
        for lease in live:
            self._begin(lease)

    async def _release_unknown(self, reason: str) -> None:
        try:
            leases = (await self._client.call("GET", "/gpu/leases", expects=LEASES))["leases"]
        except (Unreachable, Refused):
            return
        for lease in leases:
            if lease["attempt"] not in self._tasks:
                await Task(lease, self._miner, self._client, self._home, self._event_log).release(reason)

    # Work: loops beside the tasks

    async def _work(self) -> None:
        await self._heartbeat()
        polling = asyncio.create_task(self._poll_loop())
        loops = (self._heartbeat_loop, self._watch_loop, self._check_loop, self._prove_loop)
        beside = [*self._beside, *(asyncio.create_task(loop()) for loop in loops)]
        beside.append(asyncio.create_task(self._machines.run(self._client)))
        beside += [asyncio.create_task(self._models.run())] if self._models is not None else []
        if (port := self._options.metrics_port) is not None:
            beside.append(asyncio.create_task(self._metrics.serve(port, self._event_log)))
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({polling, *beside, stop}, return_when=asyncio.FIRST_COMPLETED)
        for task in (polling, *beside):
            if task.done() and (error := task.exception()) is not None:
                self._failure = self._failure or (error if isinstance(error, MinerFailed) else MinerFailed(repr(error)))
        stop.cancel()
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        await self._shut_down()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)

    @property
    def _own_pause(self) -> str | None:
        """Why its owner wants no work taken now."""
        return self._hours.pause or (self._idleness.pause if self._idleness is not None else None)

    async def _poll_loop(self) -> None:
        failures = 0
        while True:
            free = self._options.slots - len(self._tasks)
            if free <= 0:
                self._free.clear()
                self._watch_now.set()  # without a poll the watch is the connection by which the server sees us
                await self._free.wait()
                continue
            if self._pool.cluster is not None:
                free = min(free, await self._pool.cluster.free())
            if self._own_pause is not None or free <= 0:
                await asyncio.sleep(self._heartbeat_seconds)
                continue
            body = self._session.wish(free, self._tasks, self._models_free(), self._hours.run_seconds_max)
            try:
                answer = await self._client.call("POST", "/gpu/polls", body, expects=WORK, seconds=POLL_SECONDS + 15)
            except Unreachable as error:
                self._event_log.note("server_unreachable", reason=str(error))
                await asyncio.sleep(backoff_seconds(failures))
                failures += 1
                continue
            except Refused as refused:
                if self._session.is_unknown_to(refused):
                    continue
                raise rejected(refused) from None
            failures = 0
            for lease in answer["leases"]:
                self._begin(lease)
            if not answer["leases"] and answer["status"] != "online":
                self._event_log.note("no_work_for_us", status=answer["status"], message=answer["message"])
                await asyncio.sleep(self._heartbeat_seconds)

    def _models_free(self) -> dict[str, int]:
        """How many more chats those served models take that have slots of their own."""
        if self._models is None:
            return {}
        chats = (task.lease["input"] for task, _ in self._tasks.values() if task.lease["kind"] == "chat")
        return self._models.free(Counter(str(chat.get("model")) for chat in chats))

    def _begin(self, lease: dict[str, Any]) -> None:
        task = Task(lease, self._miner, self._client, self._home, self._event_log, self._parts_sender)
        self._event_log.note("lease_taken", job=lease["job"], attempt=lease["attempt"], kind=lease["kind"])
        running = asyncio.create_task(task.run(self._pool))
        self._tasks[task.attempt] = (task, running)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.pop(task.attempt, None)
            self._free.set()
            self._metrics.note_work(lease["kind"], *task.ending)
            if self._pool.cluster is not None:
                self._pool.cluster.forget(task.attempt)
            if task.failure is not None:
                self._kinds.suspect(lease["kind"], task.failure, lease["input"])
            self._try_gpus_soon()
            if not done.cancelled() and (error := done.exception()) is not None:
                self._event_log.note("task_broke", attempt=task.attempt, reason=repr(error))

        running.add_done_callback(ended)
        if not task.streams:  # what streams asks with each part whether to go on
            asyncio.get_running_loop().call_at(task.begun_at + WATCH_AFTER_SECONDS, self._watch_now.set)

    def _try_gpus_soon(self) -> None:
        """Have GPUs that appeared, or failed under a program, tried."""
        if self._pool.gpus.untried:
            for kind in self._pool.gpu_kinds:
                self._kinds.check_soon(kind)

    async def _watch_loop(self) -> None:
        """Wait beside the work for word that a lease is over, and end its work then, not at the next heartbeat."""
        over: set[str] = set()
        failures = 0
        while True:
            await self._watch_now.wait()
            self._watch_now.clear()
            watched = self._old_work() - over
            if not watched:
                continue
            try:
                ended = await self._watch(watched, over)
                failures = 0
            except Unreachable:
                await asyncio.sleep(backoff_seconds(failures))
                failures += 1
                ended = set()
            except Refused as refused:
                self._event_log.note("watch_refused", code=refused.code)  # an older server: its heartbeats tell
                await asyncio.Event().wait()
                raise AssertionError("never set") from None
            over = (over | ended) & set(self._tasks)
            if any(not self._tasks[attempt][0].delivering for attempt in ended & set(self._tasks)):
                await self._heartbeat()
            self._watch_now.set()

    async def _watch(self, attempts: set[str], over: set[str]) -> set[str]:
        """Those of the leases that are over; none after a while, or when there is other work to watch."""
        body = {"leases": sorted(attempts), "wait_seconds": POLL_SECONDS}
        path, seconds = "/gpu/leases/watch", POLL_SECONDS + 15
        asking = asyncio.create_task(self._client.call("POST", path, body, expects=ENDED, seconds=seconds))
        more = asyncio.create_task(self._other_work(attempts | over))
        try:
            await asyncio.wait({asking, more}, return_when=asyncio.FIRST_COMPLETED)
            return set(asking.result()["ended"]) if asking.done() else set()
        finally:
            await cancel_and_wait([asking, more])

    async def _other_work(self, known: set[str]) -> None:
        """Wait until there is old work beside this."""
        while True:
            await self._watch_now.wait()
            if not self._old_work() <= known:
                return
            self._watch_now.clear()

    def _old_work(self) -> set[str]:
        """The attempts whose leases are watched: what is worked on for long, and while no poll waits what streams."""
        begun_by = asyncio.get_running_loop().time() - WATCH_AFTER_SECONDS + TIMER_SECONDS
        tasks = [task for task, _ in self._tasks.values()]
        is_full = len(tasks) >= self._options.slots
        return {task.attempt for task in tasks if (is_full if task.streams else task.begun_at <= begun_by)}

    async def _heartbeat_loop(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            count += 1
            await self._heartbeat(with_readings=self._pool.gpus.seen or count % READINGS_EVERY == 0)

    async def _heartbeat(self, *, with_readings: bool = False, leaving: bool = False) -> None:
        """Send a heartbeat, which renews the leases; end the tasks whose leases are over. Raises `MinerFailed`."""
        tasks = [task for task, _ in self._tasks.values()]
        body: dict[str, Any] = {
            "slots": self._options.slots,
            "slots_busy": min(len(tasks), self._options.slots),
            "leases": [task.renewal for task in tasks],
        }
        if with_readings:
            body["telemetry"] = found = await asyncio.to_thread(self._look)
            self._try_gpus_soon()
            if self._offer(found) != self._offered:
                self._kinds.announce_again()
        if self._idleness is not None:
            shown = body["telemetry"] if with_readings else await asyncio.to_thread(self._look)
            working_on = self._pool.gpus.working_on
            self._idleness.note(shown["devices"], slots_busy=len(tasks), working_on=working_on)
        if (pause := self._kinds.pause or self._own_pause) is not None:
            body["pause"] = pause
        if self._machines.booking is not None:
            body["machine"] = self._machines.booking
        if leaving:
            body["leaving"] = True
        seconds = LEAVING_SECONDS if leaving else self._heartbeat_seconds
        try:
            answer = await self._client.call("POST", "/gpu/heartbeats", body, expects=HEARTBEAT, seconds=seconds)
        except Unreachable as error:
            self._metrics.missed_heartbeats += 1
            self._event_log.note("heartbeat_missed", reason=str(error))
            return
        except Refused as refused:
            if refused.status in REJECTIONS:
                raise rejected(refused) from None
            self._event_log.note("heartbeat_refused", code=refused.code)
            return
        self._heartbeat_seconds = float(answer["heartbeat_seconds"])
        self._machines.note_booked(answer.get("booking"))
        for lease in answer["leases"]:
            # A task that is to stop learns it where it sends its parts, and delivers what it has.
            if lease["status"] not in ("live", "stop") and lease["attempt"] in self._tasks:
                task, running = self._tasks[lease["attempt"]]
                if not task.delivering:  # a delivery gets its own answer
                    self._event_log.note("lease_ended", attempt=task.attempt, status=lease["status"])
                    running.cancel()

    async def _check_loop(self) -> None:
        """Check kinds of work and GPUs again, and send what has changed; where no kind is left, say why."""
        while True:
            await self._kinds.wait_for_change()
            if self._kinds.pause is None:
                await self._send_capabilities()
            await self._heartbeat()

    async def _prove_loop(self) -> None:
        """Prove the GPUs that programs get, unless its owner wants none of it."""
        kinds = self._options.kinds
        options = {**kinds.get("container", {}), **kinds.get("command", {})}
        how = options.get("proof", "auto")
        if not self._pool.gives_gpus or how == "none":
            await asyncio.Event().wait()
        pythons = dict.fromkeys([*interpreters(list(options.get("programs", {}).values())), sys.executable])
        await Prover(self._pool.gpus, list(pythons), self._event_log, how).run(self._client, self._tell_gpus)

    # Shutdown

    async def _shut_down(self) -> None:
        """Let tasks end within the grace period, release the leases of the others, and send a last heartbeat."""
        if self._tasks and self._failure is None:
            self._event_log.note("work_being_finished", jobs=len(self._tasks), seconds=self._options.grace_seconds)
            end = asyncio.get_running_loop().time() + self._options.grace_seconds
            while self._tasks and not self._stop_at_once.is_set() and asyncio.get_running_loop().time() < end:
                await asyncio.wait({running for _, running in self._tasks.values()}, timeout=0.2)
        left = list(self._tasks.values())
        for _, running in left:
            running.cancel()
        await asyncio.gather(*(running for _, running in left), return_exceptions=True)
        await asyncio.gather(*(task.release("miner_stopped") for task, _ in left if not task.delivering))
        if self._failure is None and not self._stop_at_once.is_set():
            await self._release_unknown("miner_stopped")
            with suppress(MinerFailed):
                await self._heartbeat(leaving=True)


def run(options: Options) -> int:
    """Run a miner until a signal; gives the exit code. Raises `MinerFailed` with what helps.

    Call it from the main thread: the workers' lives are tied to it.
    """
    make_room()
    home = Home(options.home)
    try:
        return asyncio.run(_run(options, home))
    finally:
        home.close()


async def _run(options: Options, home: Home) -> int:
    try:
        daemon = Daemon(options, home, EventLog(json_events=options.json_events))
    except FieldError as error:
        raise MinerFailed(str(error), 78) from None
    return await daemon.run()
