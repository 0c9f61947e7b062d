"""The miner's home folder: its key, its credentials and its undelivered results; locked by one process at a time."""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

from aitbc.kernel.crypto.signing import Key
from aitbc_cli.miner.options import MinerFailed


class Home:
    """The folder, locked for as long as the process lives."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            raise MinerFailed(f"{folder} can be entered by others; run: chmod 700 {folder}", 78)
        self.folder = folder.resolve()
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MinerFailed(f"another miner runs on {folder}; give this one a folder of its own", 5) from None
        self.undelivered_folder = self.folder / "undelivered"
        self.undelivered_folder.mkdir(mode=0o700, exist_ok=True)
        self.work = self.folder / "work"
        shutil.rmtree(self.work, ignore_errors=True)  # what a killed miner was at
        self.work.mkdir(mode=0o700)
        self.key = Key.load(self.folder / "miner.key", create=True)

    def close(self) -> None:
        """Let another process have the folder."""
        shutil.rmtree(self.work, ignore_errors=True)
        os.close(self._lock)

    @property
    def credentials(self) -> dict[str, Any] | None:
        """What enrolment gave: miner, account, api_key, url; none before it."""
        try:
            credentials: dict[str, Any] = json.loads((self.folder / "credentials.json").read_text())
        except FileNotFoundError:
            return None
        return credentials

    def keep_credentials(self, credentials: dict[str, Any]) -> None:
        """Write them down so that nobody else can read them."""
        write_durably(self.folder / "credentials.json", json.dumps(credentials).encode())

    def keep_undelivered(self, attempt: str, body: dict[str, Any]) -> None:
        """Write a result down before it is delivered, so that it survives a crash."""
        write_durably(self.undelivered_folder / f"{attempt}.json", json.dumps(body).encode())

    def forget_delivered(self, attempt: str) -> None:
        """Remove a result that the server answered definitely."""
        (self.undelivered_folder / f"{attempt}.json").unlink(missing_ok=True)

    def undelivered(self) -> dict[str, dict[str, Any]]:
        """The results that were never answered, by attempt; one that cannot be read is dropped."""
        found = {}
        for file in sorted(self.undelivered_folder.glob("att_*.json")):
            try:
                found[file.stem] = json.loads(file.read_bytes())
            except ValueError:
                file.unlink()
        return found


def write_durably(path: Path, content: bytes) -> None:
    """A 0600 file, whole or not at all, that is on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
