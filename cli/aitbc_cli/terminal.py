"""What people see beside the data: messages on standard error, progress, questions; and text made safe to show."""

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from aitbc_cli.exits import FAILED, Stop, usage

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_UNSAFE_BUT_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
FIRST_SIGN_SECONDS = 0.7
TICK_SECONDS = 0.12
_FRAMES = "|/-\\"


def safe(text: str, *, lines: bool = False) -> str:
    """Text from elsewhere without what steers a terminal: shown as `\\x1b`; with `lines`, tabs and line feeds stay."""
    pattern = _UNSAFE_BUT_LINES if lines else _UNSAFE
    return pattern.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_lively(stream: TextIO | None = None) -> bool:
    """Whether a stream is a terminal that can go back within a line."""
    return (stream or sys.stderr).isatty() and os.environ.get("TERM", "dumb") != "dumb"


def is_colored(stream: TextIO) -> bool:
    """Whether colour is wanted: on a terminal, unless NO_COLOR says no; CLICOLOR_FORCE says yes anywhere."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("CLICOLOR_FORCE", "0") != "0") or is_lively(stream)


def say(text: str) -> None:
    """A line for people, on standard error; the line of a progress that is being shown moves on below it."""
    with _Progress.lock:
        _Progress.clear_shown()
        print(safe(text, lines=True), file=sys.stderr, flush=True)


def may_ask() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty() and not os.environ.get("AITBC_NO_INPUT")


def confirm(question: str, *, yes: bool, may_prompt: bool) -> None:
    """Ask before something that cannot be taken back. Raises `Stop` unless the answer is yes."""
    if yes:
        return
    if not may_prompt or not may_ask():
        raise usage(f"{question} This needs a confirmation, and there is nobody to ask.", hint="say --yes")
    sys.stderr.write(f"{safe(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Stop("not confirmed; nothing was changed", exit_code=FAILED, code="not_confirmed")


class _Progress(threading.Thread):
    """A line on the terminal that shows life while something takes longer than a moment."""

    lock = threading.Lock()
    shown: "_Progress | None" = None

    def __init__(self, label: str) -> None:
        super().__init__(daemon=True)
        self.label = label
        self._ended = threading.Event()
        self._began = time.monotonic()

    @classmethod
    def clear_shown(cls) -> None:
        """Take the line away; it comes back with the next tick."""
        if cls.shown is not None:
            sys.stderr.write("\r\x1b[K")

    def run(self) -> None:
        """Draw until it is ended."""
        if self._ended.wait(FIRST_SIGN_SECONDS):
            return
        tick = 0
        while True:
            with self.lock:
                if self._ended.is_set():
                    return
                _Progress.shown = self
                seconds = time.monotonic() - self._began
                line = f"{_FRAMES[tick % len(_FRAMES)]} {safe(self.label)} … {seconds:.0f} s"
                columns = max(_columns(sys.stderr) - 1, 10)
                sys.stderr.write("\r\x1b[K" + line[:columns])
                sys.stderr.flush()
            tick += 1
            if self._ended.wait(TICK_SECONDS):
                return

    def end(self) -> None:
        """Stop and take the line away."""
        self._ended.set()
        with self.lock:
            if _Progress.shown is self:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                _Progress.shown = None


class Progress:
    """Says what is going on; `label` may change on the way."""

    def __init__(self, line: _Progress | None) -> None:
        self._line = line

    def update(self, label: str) -> None:
        """Show another label."""
        if self._line is not None:
            self._line.label = label


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Show life on a terminal while the block runs, once it takes longer than a moment; nothing elsewhere."""
    if not is_lively() or _Progress.shown is not None:
        yield Progress(None)
        return
    line = _Progress(label)
    line.start()
    try:
        yield Progress(line)
    finally:
        line.end()


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 80


def size(count: int) -> str:
    """A number of bytes for people: `512 B`, `48.0 KiB`, `1.2 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError(count)
