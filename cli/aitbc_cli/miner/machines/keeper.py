"""The keeper of machines: asks what the booker of this miner wants, holds their machine, and wipes it at the end."""

import asyncio
import json
import os
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiohttp

from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc_cli.miner.client import Fields, MinerClient, Refused, Unreachable, backoff_seconds
from aitbc_cli.miner.containers import runtime
from aitbc_cli.miner.containers.images import read_images
from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.executors.container import allowance_of
from aitbc_cli.miner.executors.fields import FieldError
from aitbc_cli.miner.executors.pool import KindStatus
from aitbc_cli.miner.executors.work import NO_GPUS
from aitbc_cli.miner.executors.worker_process import owner_of
from aitbc_cli.miner.gpus import Gpus
from aitbc_cli.miner.home import Home
from aitbc_cli.miner.machines import session
from aitbc_cli.miner.machines.machine import Given, Machine, MachineFailed

WATCH_SECONDS = 25.0
CONNECT_TRIES = 20
"""How often a connection is tried that must be met at one of several servers."""
CONNECT_PAUSE_SECONDS = 0.5
DISK_SECONDS = 2.0
REASON_LENGTH = 300
NO_IMAGES = "its owner allows no container image (aitbc miner run --image NAME=REF@sha256:…)"
NOT_WANTED = "its owner gives no machines (machines = false under [container] in --kinds-file)"
NO_FIXED_IMAGE = "its owner names no image for machines (aitbc miner run --image NAME=REF@sha256:…)"
UNBOUNDED = "podman of an ordinary user bounds no memory under control groups of version 1; version 2, or root, does"
WANTED: Fields = {"state": str, "sessions": list}


class MachineKeeper:
    """The machine of whoever has this miner booked."""

    def __init__(self, options: Mapping[str, Any] | None, home: Home, gpus: Gpus, event_log: EventLog) -> None:
        """`options` are those of the kind `container`; none where this miner does not do it."""
        self._options = options
        self._gpus = gpus
        self._event_log = event_log
        self._work = home.work
        self._folder = home.folder / "machine"
        self._machine: Machine | None = None
        self._booked = asyncio.Event()
        self._changed = asyncio.Event()
        self._sessions: dict[str, asyncio.Task[None]] = {}
        self._seen: deque[str] = deque(maxlen=200)
        """Connections that were taken up, open or not: the server may not know yet that one has ended."""
        self._starting = asyncio.Lock()
        if options is not None and (left := sorted(path.name for path in self._folder.glob("book_*"))):
            self._machine = Machine(left[-1], self._folder / left[-1])  # what a killed miner left, until it is asked of
            self._booked.set()

    @property
    def booking(self) -> str | None:
        """The booking whose machine is here, running or not."""
        return None if self._machine is None else self._machine.booking

    def offer(self, status: KindStatus | None) -> dict[str, Any]:
        """What bookers of this miner get; `status` is how the kind `container` was found."""
        why, images = self._why_not(status), self._images()
        if why is not None:
            why = "".join(letter if letter.isprintable() else " " for letter in why)
            return {"available": False, "reason": why[:REASON_LENGTH]}
        return {"available": True, "images": images, "network": bool((self._options or {}).get("network"))}

    def _why_not(self, status: KindStatus | None) -> str | None:
        if self._options is None or status is None:
            return NO_IMAGES
        if self._options.get("machines", True) is False:
            return NOT_WANTED
        if not self._images():
            return NO_FIXED_IMAGE
        if not status.usable:
            return status.message
        found = runtime.remembered(self._work)
        return UNBOUNDED if found is not None and not found.bounds else None

    def _images(self) -> list[str]:
        with suppress(FieldError):
            return list(read_images(self._options or {}).by_name)
        return []

    def note_booked(self, booking: str | None) -> None:
        """Note what a heartbeat said: the booking that this miner is in."""
        if self._options is not None and booking is not None:
            self._booked.set()

    async def run(self, client: MinerClient) -> None:
        """Do what bookers want, as long as this miner runs. An older server knows no machines, and ends it."""
        failures = 0
        disk = asyncio.create_task(self._watch_disk())
        try:
            while True:
                await self._booked.wait()
                try:
                    await self._once(client)
                    failures = 0
                except Unreachable:
                    await asyncio.sleep(backoff_seconds(failures))
                    failures += 1
                except (MachineFailed, OSError) as error:  # what cannot be ended now is tried again
                    self._event_log.note("machine_failed", reason=str(error))
                    await asyncio.sleep(backoff_seconds(failures))
                    failures += 1
                except Refused as refused:
                    self._event_log.note("machine_watch_refused", code=refused.code)
                    await asyncio.Event().wait()
        finally:
            await cancel_and_wait([disk])

    async def _once(self, client: MinerClient) -> None:
        machine = self._machine
        runs = machine is not None and machine.runs
        body = {"booking": self.booking, "runs": runs, "known": list(self._seen), "wait_seconds": WATCH_SECONDS}
        asking = asyncio.create_task(
            client.call("POST", "/gpu/machine/watch", body, expects=WANTED, seconds=WATCH_SECONDS + 15)
        )
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({asking, changed}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():  # the machine runs, or has ended: say so at once, for its time is counted
                self._changed.clear()
                return
            answer = asking.result()
        finally:
            await cancel_and_wait([asking, changed])
        await self._follow(answer, client)

    async def _follow(self, answer: Mapping[str, Any], client: MinerClient) -> None:
        booking = answer.get("booking")
        if self._machine is not None and self._machine.booking != booking:
            await self._end("booking_ended")
        if booking is None:
            self._booked.clear()
            return
        if self._machine is None:
            self._machine = Machine(booking, self._folder / booking)
        if answer["state"] == "unpaid" and self._machine.runs:
            await self._stand_still("unpaid")
        for one in answer["sessions"]:
            if one["id"] not in self._seen:
                self._seen.append(one["id"])
                self._begin(client, one, self._machine)

    def _begin(self, client: MinerClient, one: Mapping[str, Any], machine: Machine) -> None:
        name = str(one["id"])
        self._sessions[name] = task = asyncio.create_task(self._serve(client, one, machine))

        def ended(_: asyncio.Task[None]) -> None:
            self._sessions.pop(name, None)

        task.add_done_callback(ended)

    async def _serve(self, client: MinerClient, one: Mapping[str, Any], machine: Machine) -> None:
        """One connection, from its WebSocket to its end."""
        wanted = one["wanted"]
        try:
            socket = await self._connected(client, one)
        except Unreachable as error:
            self._event_log.note("machine_session_missed", session=one["id"], reason=str(error))
            return
        async with socket:
            self._event_log.note("machine_session_begun", session=one["id"], purpose=wanted["purpose"])
            try:
                await self._started(machine, wanted)
                await socket.send_str('{"started": true}')
                await session.serve(socket, one["id"], wanted, machine)
            except MachineFailed as error:
                await socket.send_str(json.dumps({"error": str(error)[:1000]}))
            except (ConnectionError, aiohttp.ClientError):  # the other side has gone
                pass
            except OSError as error:
                self._event_log.note("machine_session_failed", session=one["id"], reason=str(error))
                with suppress(ConnectionError):
                    await socket.send_str(json.dumps({"error": f"the miner cannot do this now ({error.strerror})"}))
        self._event_log.note("machine_session_ended", session=one["id"])

    async def _connected(self, client: MinerClient, one: Mapping[str, Any]) -> "aiohttp.ClientWebSocketResponse[bool]":
        """Its WebSocket; where the other end is at another server, another try may be led there."""
        for attempt in range(CONNECT_TRIES):
            try:
                return await client.socket(one["path"], one.get("url"))
            except Unreachable:
                if attempt + 1 == CONNECT_TRIES:
                    raise
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)
        raise AssertionError("the last try raises")

    async def _started(self, machine: Machine, wanted: Mapping[str, Any]) -> None:
        """Start the machine unless it runs, as it is wanted. Raises `MachineFailed`."""
        async with self._starting:
            if machine is not self._machine:
                raise MachineFailed("the booking has ended")
            image = read_images(self._options or {}).by_name.get(wanted.get("image") or self._images()[0])
            if image is None:
                raise MachineFailed(f"the image {wanted['image']!r} is not allowed on this miner")
            if machine.runs:
                is_same = wanted.get("image") is None or image == machine.image
                if not is_same or (wanted.get("network") and not machine.has_network):
                    raise MachineFailed(
                        "the machine runs from another image or without a network; it is started anew once its booking is"
                    )
                return
            await machine.start(self._given(), image, network=bool(wanted.get("network")))
            self._event_log.note("machine_started", booking=machine.booking, image=image)
            self._changed.set()

    def _given(self) -> Given:
        """What a machine gets: all GPUs of this miner that programs may have. Raises `MachineFailed`."""
        found = runtime.remembered(self._work)
        if found is None:
            raise MachineFailed("no container can be run here now")
        options = self._options or {}
        gpus = [] if options.get("gpus") == NO_GPUS else [self._gpus.whole(uuid) for uuid in self._gpus.sound]
        return Given(found, owner_of(self._work, "machine"), allowance_of(options, cpus=os.cpu_count() or 1), gpus)

    async def _watch_disk(self) -> None:
        """Stop a machine whose folders hold more than they may, and note one that ended by itself."""
        was_running = False
        while True:
            await asyncio.sleep(DISK_SECONDS)
            machine = self._machine
            runs = machine is not None and machine.runs
            if was_running and not runs:
                self._changed.set()
            was_running = runs
            try:
                if machine is not None and runs and await asyncio.to_thread(machine.is_full):
                    await self._stand_still("disk_full")
            except (MachineFailed, OSError) as error:
                self._event_log.note("machine_failed", reason=str(error))

    async def _stand_still(self, reason: str) -> None:
        """Stop the machine with its connections; its disk stays."""
        if self._machine is None:
            return
        await self._close_sessions()
        async with self._starting:
            await self._machine.stop()
        self._event_log.note("machine_stopped", booking=self._machine.booking, reason=reason)
        self._changed.set()

    async def _end(self, reason: str) -> None:
        """End the machine with its connections, and wipe its disk."""
        machine = self._machine
        if machine is None:
            return
        await self._close_sessions()
        async with self._starting:
            await machine.end()
            self._machine = None
        self._event_log.note("machine_ended", booking=machine.booking, reason=reason)

    async def _close_sessions(self) -> None:
        await cancel_and_wait(list(self._sessions.values()))

    async def stop(self) -> None:
        """The miner ends: so does the machine. Its disk stays for as long as the booking lasts."""
        await self._close_sessions()
        if self._machine is not None:
            with suppress(MachineFailed):
                await self._machine.stop()
