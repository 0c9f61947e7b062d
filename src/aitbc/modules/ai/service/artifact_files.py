"""The files of artifacts: content under its digest, and beside it what is still being uploaded.

A file that is being uploaded is locked by its upload, so that one left by a process that died can be told and removed,
by any process that shares the folder.
"""

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "incoming-"
READ_BYTES = 256 * 1024
FOLDERS = 256
"""Content lies in folders by the first two letters of its digest."""


class IncomingFile:
    """The file of one upload, locked until it is closed; it is removed then, unless it was moved to its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._in_use = threading.Lock()
        self._is_closed = False
        self.size = 0
        while True:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            _lock(self._descriptor)
            if _is_file(path, self._descriptor):
                return
            os.close(self._descriptor)  # a sweep took it for one that was left, before it was locked

    @property
    def digest(self) -> str:
        """The digest of what was written."""
        return f"sha256:{self._digest.hexdigest()}"

    def append(self, piece: bytes) -> None:
        """Write a piece, whole."""
        with self._using():
            self._digest.update(piece)
            self.size += len(piece)
            view = memoryview(piece)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def finish(self) -> None:
        """Wait until all of it is on the disk."""
        with self._using():
            os.fsync(self._descriptor)

    def move_to(self, path: Path) -> None:
        """Put the content under its name, and make the name as durable as the content."""
        with self._using():
            with suppress(FileExistsError):
                os.mkdir(path.parent, 0o700)  # noqa: PTH102
            os.replace(self._path, path)  # noqa: PTH105
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def close(self) -> None:
        """Release it, and remove what was not moved."""
        with self._in_use:
            self._is_closed = True
            try:
                if _is_file(self._path, self._descriptor):
                    self._path.unlink()
            finally:
                os.close(self._descriptor)

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Hold it open: a thread may be at work on it still when its upload was cancelled."""
        with self._in_use:
            if self._is_closed:
                raise OSError(errno.EBADF, "This upload has ended.")
            yield


class ArtifactFiles:
    """The folder of all artifacts; every method works on the disk, and the slow ones belong in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, digest: str) -> Path:
        """Where content lies."""
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name

    def incoming(self, artifact: str) -> IncomingFile:
        """The file of a new upload."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return IncomingFile(self._folder / (PREFIX + artifact))

    def is_uploading(self, artifact: str) -> bool:
        """Whether a living process holds the file of this upload."""
        return _is_held(self._folder / (PREFIX + artifact))

    def remove_abandoned(self) -> list[str]:
        """Remove the files of uploads that nobody goes on with; answers the artifacts that they would have become."""
        files = self._folder.glob(PREFIX + "*")
        return [path.name.removeprefix(PREFIX) for path in files if not _is_held(path, remove=True)]

    def names_in(self, number: int) -> list[str]:
        """The digests of the content in one of the `FOLDERS`."""
        folder = self._folder / f"{number:02x}"
        return [f"sha256:{path.name}" for path in folder.glob("?" * 64)] if folder.is_dir() else []

    def read(self, digest: str, size: int) -> bytes:
        """The first bytes of a content. Raises `FileNotFoundError`."""
        with self.path_of(digest).open("rb") as file:
            return file.read(size)

    def read_slices(self, digest: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """Slices of a content, by offset and length. Raises `FileNotFoundError`."""
        with self.path_of(digest).open("rb") as file:
            return [os.pread(file.fileno(), length, offset) for offset, length in places]

    def pieces(self, digest: str) -> Iterator[bytes]:
        """A content in pieces. Raises `FileNotFoundError` at once, not with the first piece."""
        file = self.path_of(digest).open("rb")

        def read() -> Iterator[bytes]:
            with file:
                while piece := file.read(READ_BYTES):
                    yield piece

        return read()

    def remove(self, digest: str) -> None:
        """Remove a content."""
        self.path_of(digest).unlink(missing_ok=True)


def _lock(descriptor: int) -> None:
    """Lock a new file; where the file system has no locks it goes without, and a sweep takes nothing away there."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return


def _is_file(path: Path, descriptor: int) -> bool:
    """Whether this open file is the one at the path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_held(path: Path, *, remove: bool = False) -> bool:
    """Whether somebody holds the lock of a file; one that nobody holds is removed under it, where that is asked."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:  # a disk that takes no writes: for another round
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if remove:
            path.unlink(missing_ok=True)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
