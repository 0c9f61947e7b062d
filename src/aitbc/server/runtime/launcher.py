"""Fork server: a process that has loaded the application, and forks the processes of split modules from it.

It is forked from the main process before that has threads, sockets or an event loop, has one thread itself and only
waits, so that a fork of it is safe at any time. A process forked from it starts without loading anything, and shares
the pages of what was loaded. It ends when the main process does, and the processes that it forked end with it.
"""

import asyncio
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from aitbc.server.runtime.parent_death import die_with, set_process_name

Serve = Callable[[str], int]
"""Serves one module until a signal; gives the exit code."""
MESSAGE_BYTES = 4096
"""More than any message has."""
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that may be sent to the whole group, and that only the main process decides upon."""
_CRASHED = 1


class Start(Struct, frozen=True, tag="start"):
    """Fork a process that serves this module."""

    module: str


class Signal(Struct, frozen=True, tag="signal"):
    """Send a signal to a process, unless it has ended."""

    pid: int
    number: int


class Started(Struct, frozen=True, tag="started"):
    """The answer to `Start`, in the order of the requests."""

    pid: int


class Ended(Struct, frozen=True, tag="ended"):
    """A process ended: with this exit code, or by the signal of this number below zero."""

    pid: int
    code: int


_requests = msgspec.json.Decoder(Start | Signal)
_reports = msgspec.json.Decoder(Started | Ended)


class LauncherGone(Exception):
    """The fork server has ended."""


class ForkedProcess:
    """A process that the fork server forked, with what `asyncio.subprocess.Process` offers of one."""

    def __init__(self, pid: int, send: Callable[[Signal], None]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._send = send
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        """Wait for its end, and give its exit code."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal. Raises `ProcessLookupError` when it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        self._send(Signal(self.pid, number))

    def end(self, code: int) -> None:
        """Set the exit code: the process has ended."""
        self.returncode = code
        self._ended.set()


class Launcher:
    """The main process's end of the fork server."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection
        self._starting: list[asyncio.Future[ForkedProcess]] = []
        self._processes: dict[int, ForkedProcess] = {}
        self._is_gone = False

    def listen(self) -> None:
        """Receive its reports in the running event loop, until `close`."""
        self._connection.setblocking(False)
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._receive)

    async def start(self, module: str) -> ForkedProcess:
        """Fork a process that serves this module. Raises `LauncherGone`."""
        if self._is_gone:
            raise LauncherGone
        answer: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
        self._starting.append(answer)
        self._send(Start(module))
        return await answer

    def close(self) -> None:
        """End the fork server, and so the processes that it forked; wait for its own end."""
        if self._connection.fileno() >= 0:
            with suppress(RuntimeError):  # no event loop runs, or it never listened
                asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._connection.close()
            os.kill(self.pid, signal.SIGKILL)  # not reaped, so the number is still its: even if somebody stopped it
            os.waitpid(self.pid, 0)

    def _send(self, message: Start | Signal) -> None:
        try:
            self._connection.send(msgspec.json.encode(message))
        except OSError:
            self._lose()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        match _reports.decode(data):
            case Started(pid):
                process = self._processes[pid] = ForkedProcess(pid, self._send)
                answer = self._starting.pop(0)
                if not answer.done():
                    answer.set_result(process)
            case Ended(pid, code):
                self._processes.pop(pid).end(code)

    def _lose(self) -> None:
        """The fork server ended, and its processes are sent SIGTERM by the system: their exit codes nobody hears of."""
        self._is_gone = True
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        for process in self._processes.values():
            process.end(-signal.SIGTERM)
        self._processes.clear()
        for answer in self._starting:
            if not answer.done():
                answer.set_exception(LauncherGone())
        self._starting.clear()


def launcher(serve: Serve) -> Launcher | None:
    """Fork the fork server; none where this process has threads already, whose locks a fork would keep for ever."""
    if threading.active_count() > 1:
        return None
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    if (pid := os.fork()) == 0:
        try:
            ours.close()
            die_with(parent, signal.SIGKILL)
            _ForkServer(its, serve).run()
        finally:
            os._exit(_CRASHED)
    its.close()
    return Launcher(pid, ours)


class _ForkServer:
    """The process itself: one thread that waits for requests and for the ends of its children."""

    def __init__(self, connection: socket.socket, serve: Serve) -> None:
        self._connection = connection
        self._serve = serve
        self._children: set[int] = set()
        self._wakeup, self._woken_by = os.pipe()
        self._handlers: Mapping[int, Any] = {}

    def run(self) -> None:
        """Fork, signal and report until the main process is gone."""
        os.setsid()
        set_process_name("aitbc launcher")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _IGNORED}
        os.set_blocking(self._woken_by, False)
        signal.signal(signal.SIGCHLD, _do_nothing)
        signal.set_wakeup_fd(self._woken_by, warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._connection.fileno(), self._wakeup], [], [])
            if self._wakeup in ready:
                os.read(self._wakeup, MESSAGE_BYTES)
            self._reap()
            if self._connection.fileno() in ready:
                if not (data := self._connection.recv(MESSAGE_BYTES)):
                    return
                self._obey(_requests.decode(data))

    def _obey(self, request: Start | Signal) -> None:
        if isinstance(request, Start):
            parent = os.getpid()
            signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)  # what comes before its handlers are set is not lost
            if (pid := os.fork()) == 0:
                self._become(request.module, parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
            self._children.add(pid)
            self._report(Started(pid))
        elif request.pid in self._children:  # not reaped, so the number is still its
            os.kill(request.pid, request.number)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.remove(pid)
            self._report(Ended(pid, os.waitstatus_to_exitcode(status)))

    def _report(self, report: Started | Ended) -> None:
        with suppress(OSError):  # the main process is gone: the next read says so
            self._connection.send(msgspec.json.encode(report))

    def _become(self, module: str, parent: int) -> NoReturn:
        """Go on as the module's process; never returns into the fork server's loop."""
        code = _CRASHED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
            for descriptor in (self._connection.fileno(), self._wakeup, self._woken_by):
                os.close(descriptor)
            os.setsid()
            die_with(parent, signal.SIGTERM)
            set_process_name(f"aitbc {module}")
            code = self._serve(module)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else _CRASHED
        except Exception:  # noqa: BLE001 - nothing is above it: the process ends
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the signal writes to the wakeup pipe."""
