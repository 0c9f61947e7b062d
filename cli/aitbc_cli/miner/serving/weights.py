"""The digests of the files that a miner serves: read once for each state of a file, and kept across starts."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

RECORDS = "weights.json"


class Weights:
    """Digests of files, by where they lie and what size and time they had."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / RECORDS
        self._known: dict[str, list[object]] = _read(self._file)

    def known(self, path: Path) -> str | None:
        """The digest of a file as it is now, where it was read in this state; in hexadecimal."""
        record = self._known.get(str(path))
        return str(record[1]) if record is not None and record[0] == _state(path) else None

    def read(self, path: Path) -> str | None:
        """The digest of a file, read anew unless it is known; none where it changes meanwhile, or cannot be read."""
        if (known := self.known(path)) is not None:
            return known
        try:
            before = _state(path)
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError:
            return None
        if before is None or before != _state(path):
            return None
        self._known[str(path)] = [before, digest]
        partial = self._file.with_suffix(".new")
        with suppress(OSError):  # it is read anew the next time
            partial.write_text(json.dumps(self._known))
            partial.rename(self._file)
        return digest


def _state(path: Path) -> str | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


def _read(file: Path) -> dict[str, list[object]]:
    try:
        read = json.loads(file.read_bytes())
        return {str(path): [str(record[0]), str(record[1])] for path, record in read.items()}
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return {}
