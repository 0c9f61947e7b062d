"""The log writer: a queue of lines and a thread that writes them, so that a slow reader never blocks a request."""

import os
import re
import select
import stat
import threading
import time
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

import msgspec

from aitbc.kernel.crypto.api_key import without_keys

COLLECT_SECONDS = 0.1
"""How long lines are collected into one write."""
QUEUE_BYTES_MAX = 8 << 20
"""Lines past this are dropped and counted, while the reader is stalled."""
FLUSH_SECONDS = 1.0
PIPE_BYTES = 4096
"""What a pipe that polls as writable accepts without blocking."""
FILE_BYTES = 1 << 18
SECRET_LENGTH_MIN = 6
"""Shorter secrets are not masked: they would match everywhere."""
MASK = b"********"

_PASSWORD = re.compile(rb"(://[^/@:\s\"]{0,128}:)[^@\s\"]{1,512}(?=@)")
_BEARER = re.compile(rb"(?i)(bearer )[0-9a-z._~+/=-]{12,}")


class LogWriter:
    """Writes whole lines to a file descriptor, in order, with secrets masked."""

    def __init__(self, descriptor: int, *, secrets: Iterable[str] = ()) -> None:
        self._descriptor = descriptor
        self._secrets = _spellings(secrets)
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._lines: list[bytes] = []
        self._size = 0
        self._dropped = 0
        self._queue_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line with its newline. Never blocks; while the reader is stalled, lines are dropped and counted."""
        with self._queue_lock:
            if self._size > QUEUE_BYTES_MAX:
                self._dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
        if not self._wake.is_set():
            self._wake.set()

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Write the lines queued so far, or give up after this many seconds."""
        self._write_queued(time.monotonic() + seconds)

    def close(self) -> None:
        """Flush, and stop the thread."""
        self._closed = True
        self.flush()
        self._wake.set()
        self._thread.join(FLUSH_SECONDS)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            if not self._closed:
                time.sleep(COLLECT_SECONDS)
            self._wake.clear()
            self._write_queued(None)

    def _write_queued(self, deadline: float | None) -> None:
        if not self._write_lock.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic())):
            return
        try:
            with self._queue_lock:
                lines, self._lines, self._size = self._lines, [], 0
                dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(b'{"level":"error","event":"log_lines_dropped","count":%d}\n' % dropped)
            self._write_all(self.masked(b"".join(lines)), deadline)
        finally:
            self._write_lock.release()

    def masked(self, text: bytes) -> bytes:
        """A text without secrets, keys and passwords."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        text = _PASSWORD.sub(rb"\1" + MASK, without_keys(text))
        return _BEARER.sub(rb"\1" + MASK, text)

    def _write_all(self, text: bytes, deadline: float | None) -> None:
        """Write in chunks, as fast as the reader takes them; on an error (a closed pipe, a full disk) drop the rest."""
        chunk = FILE_BYTES if self._regular else PIPE_BYTES
        view = memoryview(text)
        try:
            while view:
                if not self._regular and not self._writable(deadline):
                    return
                view = view[os.write(self._descriptor, view[:chunk]) :]
        except OSError:
            return

    def _writable(self, deadline: float | None) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        milliseconds = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000))
        return bool(poll.poll(milliseconds))


def _password_of(url: str) -> str | None:
    """The password in a URL, also in one that cannot be read: whoever refuses it must not print it either."""
    try:
        return urlsplit(url).password
    except ValueError:
        return url.partition("://")[2].rpartition("@")[0].partition(":")[2] or None


def _spellings(secrets: Iterable[str]) -> list[bytes]:
    """The forms a secret may have in a line: plain, escaped in a JSON string, and the password of a URL by itself."""
    found: set[bytes] = set()
    for secret in secrets:
        words = {secret}
        if "://" in secret and (password := _password_of(secret)):
            words |= {password, unquote(password)}
        for word in words:
            if len(word) >= SECRET_LENGTH_MIN:
                found |= {word.encode(), msgspec.json.encode(word)[1:-1]}
    return sorted(found, key=len, reverse=True)
