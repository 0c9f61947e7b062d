"""The files in which running servers describe themselves: one each, locked by its server for as long as it lives."""

import fcntl
import os
from pathlib import Path

SERVER_FILE = "server.json"
"""In the state folder; a second server on the same folder writes `server-PID.json` beside it."""


def server_file_of(state: Path) -> Path:
    """The file of a server that runs on this state folder; `server.json` where none does."""
    first = state / SERVER_FILE
    return next((path for path in (first, *sorted(state.glob("server-*.json"))) if is_held(path)), first)


def is_held(path: Path) -> bool:
    """Whether the server that wrote this file lives.

    A pid could not tell: it is reused, and means nothing elsewhere.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class OwnServerFile:
    """The file of this process, which no other server touches while it lives."""

    def __init__(self, state: Path, text: str) -> None:
        """Write it, private to this user, whole or not at all."""
        for stale in state.glob("server-*.json"):
            if not is_held(stale):
                stale.unlink(missing_ok=True)
        first = state / SERVER_FILE
        self._path = state / f"server-{os.getpid()}.json" if is_held(first) else first
        temporary = state / f".server-{os.getpid()}.new"
        temporary.unlink(missing_ok=True)
        self._descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            content = text.encode()
            while content:
                content = content[os.write(self._descriptor, content) :]
            os.fsync(self._descriptor)
            temporary.rename(self._path)
        except OSError:
            os.close(self._descriptor)
            temporary.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Remove the file, unless it is another's by now."""
        ours = os.fstat(self._descriptor)
        try:
            if os.path.samestat(ours, self._path.stat()):
                self._path.unlink()
        except FileNotFoundError:
            pass
        os.close(self._descriptor)
