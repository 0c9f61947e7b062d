"""One program under limits: started without a shell in a session of its own, watched, and gone with all it started."""

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aitbc_cli.miner.executors import process_tree
from aitbc_cli.miner.executors.cgroup import Cgroup
from aitbc_cli.miner.executors.fields import clean_text
from aitbc_cli.miner.executors.gpu_watch import GpuWatch
from aitbc_cli.miner.executors.work import Failure

_TICK_SECONDS = 0.04
_NICE = 5
_DISK_TICK_SECONDS = 0.25
_DRAIN_SECONDS = 1.0
_LINE_BYTES = 500
_CUT = " [cut]"


@dataclass(frozen=True)
class Limits:
    """What one run may use; memory and processes are those of the whole tree, output is that of each stream."""

    run_seconds: float
    memory_bytes: int
    output_bytes: int
    processes: int
    disk_bytes: int
    open_files: int = 256
    bounds_address_space: bool = True
    """Whether no process may reserve more than the memory: a program for a GPU reserves many times what it uses."""


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code (128 + the signal, if one ended it), its output, and any limit it broke."""

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool
    milliseconds: int
    failure: Failure | None
    usage: Mapping[str, int] = field(default_factory=dict)
    """What else was counted."""


class Captured:
    """The beginning and the end of a stream, up to a limit: a quarter for the beginning, the rest for the end."""

    def __init__(self, limit: int, on_line: Callable[[str], None]) -> None:
        self._head_bytes = limit // 4
        self._tail_bytes = limit - self._head_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0
        self._on_line = on_line
        self._line = bytearray()
        self._is_cut = False
        self._is_returned = False
        """A carriage return came: what comes next on the line is written over it, as a progress bar does."""

    @property
    def truncated(self) -> bool:
        """Whether a part in the middle is missing."""
        return self._left_out > 0

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream."""
        room = self._head_bytes - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if (surplus := len(self._tail) - self._tail_bytes) > 0:
            del self._tail[:surplus]
            self._left_out += surplus
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._grow_line(part)
            self._end_line()
        self._grow_line(rest)

    def text(self) -> str:
        """What was kept, as clean text, with a mark where something is missing."""
        if not self._left_out:
            return clean_text((self._head + self._tail).decode("utf-8", "replace"))
        head, tail = (clean_text(kept.decode("utf-8", "replace")) for kept in (self._head, self._tail))
        return f"{head}\n[{self._left_out} bytes left out]\n{tail}"

    def finish(self) -> None:
        """The stream has ended: what stands after its last line break is a line too."""
        if self._line:
            self._end_line()

    def _grow_line(self, part: bytes) -> None:
        for number, written in enumerate(part.split(b"\r")):
            self._is_returned = self._is_returned or number > 0
            if not written:
                continue
            if self._is_returned:
                self._line.clear()
                self._is_cut = self._is_returned = False
            room = _LINE_BYTES - len(self._line)
            self._line += written[:room]
            self._is_cut = self._is_cut or len(written) > room

    def _end_line(self) -> None:
        line = clean_text(self._line.decode("utf-8", "replace"))
        cut = _CUT if self._is_cut else ""
        self._on_line("".join(character if character.isprintable() else " " for character in line) + cut)
        self._line.clear()
        self._is_cut = self._is_returned = False


class Program:
    """A running program. The process that runs it must have called `process_tree.adopt_orphans`."""

    def __init__(
        self,
        command: list[str],
        *,
        stdin: bytes,
        user: int | None,
        folder: Path,
        environment: Mapping[str, str],
        limits: Limits,
        on_line: Callable[[str], None],
        cgroup: Cgroup | None = None,
        gpu_watch: GpuWatch | None = None,
        is_confined: bool = True,
    ) -> None:
        """Start it. One that is not confined is a container runtime: its container has limits and a user of its own."""
        self._limits = limits
        self._cgroup = cgroup
        self._gpu_watch = gpu_watch
        self._folder = folder
        self._stdin = memoryview(stdin)
        self._failure: Failure | None = None
        self._started = time.monotonic()
        self._next_disk_check = self._started
        self._streams = {name: Captured(limits.output_bytes, on_line) for name in ("stdout", "stderr")}
        tasks = process_tree.tasks_of_user(os.getuid() if user is None else user)
        if user is not None:
            _hand_over(folder, user)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            # This process has one thread, so that running Python between fork and exec is safe here.
            preexec_fn=(lambda: _confine(limits, tasks, cgroup)) if is_confined else None,  # noqa: PLW1509
            bufsize=0,
        )
        if cgroup is not None and not cgroup.holds(self._process.pid):
            self._cgroup = None  # the watch over the tree bounds it

    def wait(self) -> Ended:
        """Serve the streams and watch the limits until the program ended, then end whatever it left behind."""
        try:
            with selectors.DefaultSelector() as selector:
                self._register(selector)
                self._serve(selector)
                self._end_all()
                self._drain(selector)
        finally:
            self._end_all()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        for stream in self._streams.values():
            stream.finish()
        code = self._process.returncode
        milliseconds = round((time.monotonic() - self._started) * 1000)
        return Ended(
            exit_code=code if code >= 0 else 128 - code,
            stdout=self._streams["stdout"].text(),
            stderr=self._streams["stderr"].text(),
            truncated=any(stream.truncated for stream in self._streams.values()),
            milliseconds=milliseconds,
            failure=self._failure or self._full_cgroup() or _SIGNALS.get(-code),
            usage=self._gpu_watch.usage(milliseconds) if self._gpu_watch is not None else {},
        )

    def _register(self, selector: selectors.BaseSelector) -> None:
        for name, pipe in (("stdout", self._process.stdout), ("stderr", self._process.stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, name)
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        selector.register(self._process.stdin, selectors.EVENT_WRITE, "stdin")

    def _serve(self, selector: selectors.BaseSelector) -> None:
        next_tick = time.monotonic()
        # A short wait, and the status asked for each time: the program may end while a stream stays open or chatters.
        while self._process.poll() is None and self._failure is None:
            for key, _ in selector.select(_TICK_SECONDS / 4):
                self._move(selector, key)
            if time.monotonic() >= next_tick:
                began = time.monotonic()
                self._failure = self._broken_limit()
                ended = time.monotonic()
                # Watching takes a tenth of a processor at most, however many processes the machine has.
                next_tick = ended + max(_TICK_SECONDS, 9 * (ended - began))

    def _drain(self, selector: selectors.BaseSelector) -> None:
        """Read what is still in the pipes; nobody is left to write, so that they end."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        while any(key.data != "stdin" for key in selector.get_map().values()) and time.monotonic() < deadline:
            for key, _ in selector.select(_TICK_SECONDS):
                self._move(selector, key)

    def _move(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        """Write a piece of the input or read a piece of the output; a pipe that ended is forgotten."""
        try:
            if key.data == "stdin":
                self._stdin = self._stdin[os.write(key.fd, self._stdin[:65_536]) :] if self._stdin else self._stdin
                ended = not self._stdin
            else:
                data = os.read(key.fd, 65_536)
                self._streams[key.data].feed(data)
                ended = not data
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            selector.unregister(key.fileobj)
            if key.data == "stdin" and self._process.stdin:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()

    def _broken_limit(self) -> Failure | None:
        limits = self._limits
        if time.monotonic() - self._started > limits.run_seconds:
            return _broken("timed_out", f"The program ran longer than its {limits.run_seconds:g} seconds.")
        if (failure := self._broken_by_tree()) is not None:
            return failure
        if time.monotonic() < self._next_disk_check:
            return None
        self._next_disk_check = time.monotonic() + _DISK_TICK_SECONDS
        if disk_bytes(self._folder, enough=limits.disk_bytes) > limits.disk_bytes:
            return _broken("output_too_large", f"The program wrote more than {limits.disk_bytes} bytes to its folder.")
        return None

    def _broken_by_tree(self) -> Failure | None:
        """What its processes use too much of."""
        limits = self._limits
        running = process_tree.living(os.getpid())
        if len(running) > limits.processes:
            return _broken("too_many_processes", f"The program started more than {limits.processes} processes.")
        if process_tree.memory_bytes(running, enough=limits.memory_bytes) > limits.memory_bytes:
            return self._too_much_memory()
        if (full := self._full_cgroup()) is not None:
            return full
        return self._gpu_watch.broken_limit(running) if self._gpu_watch is not None else None

    def _full_cgroup(self) -> Failure | None:
        is_full = self._cgroup is not None and self._cgroup.ran_out_of_memory()
        return self._too_much_memory() if is_full else None

    def _too_much_memory(self) -> Failure:
        return _broken("out_of_memory", f"The program used more than {self._limits.memory_bytes} bytes of memory.")

    def _end_all(self) -> None:
        if self._process.poll() is None:
            # Stopped at once, so that it can do nothing while the rest of the tree is found.
            self._process.send_signal(signal.SIGSTOP)
        process_tree.kill_descendants(os.getpid())
        # The status of the program itself is taken first: whoever reaps a child takes its status away.
        self._process.wait()
        process_tree.reap()


def _confine(limits: Limits, tasks: int, cgroup: Cgroup | None) -> None:
    """What the new process gives up before it becomes the program."""
    if cgroup is not None:
        cgroup.enter()
    process_tree.die_with_parent(signal.SIGKILL)
    process_tree.renounce_privileges()
    # The daemon's heartbeat and the watch over this program go first.
    os.nice(_NICE)
    cpu_seconds = int(limits.run_seconds * (os.cpu_count() or 1)) + 2
    for what, limit in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.disk_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        # The kernel counts all threads of the user and exempts root: a backstop to the count of the tree.
        (resource.RLIMIT_NPROC, tasks + 4 * limits.processes),
        # Last, because it may be below what this copy of the worker holds already.
        *(((resource.RLIMIT_AS, limits.memory_bytes),) if limits.bounds_address_space else ()),
    ):
        hard = resource.getrlimit(what)[1]
        lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (lowest, lowest))


def _hand_over(folder: Path, user: int) -> None:
    """Give the folder of the work, and the files that were brought there, to the user of the program."""
    for path in (folder, *folder.iterdir()):
        os.chown(path, user, user, follow_symlinks=False)


def disk_bytes(folder: Path, *, enough: int) -> int:
    """The bytes of all files below a folder; stops counting beyond `enough`, and follows no link."""
    total = 0
    folders = [os.fspath(folder)]
    while folders and total <= enough:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    with contextlib.suppress(OSError):
                        # An empty file takes a place in the file system too.
                        total += max(entry.stat(follow_symlinks=False).st_blocks * 512, 256)
    return total


def _broken(reason: str, message: str) -> Failure:
    return Failure("requester", reason, message)


# The signals by which the kernel itself says that a limit was reached.
_SIGNALS: dict[int, Failure] = {
    signal.SIGXCPU: _broken("timed_out", "The program used all the processor time it was given."),
    signal.SIGXFSZ: _broken("output_too_large", "The program wrote a file that is larger than its limit."),
}
