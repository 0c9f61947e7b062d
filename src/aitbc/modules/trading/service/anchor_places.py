"""Where anchors are kept: a file, a branch of a git repository, an endpoint on the web.

Each says what it has last, and takes one line more. None is asked under a lock, and none waits for another.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from aitbc.kernel.platform import Egress, Unreachable
from aitbc.kernel.primitives.tasks import end_process

LINE_BYTES_MAX = 4096
"""No anchor is longer; so much of a file's end is read to find the last one."""
SECONDS = 60.0
"""How long one step with git, or one request, may take."""
GIT_FILE = "anchors.jsonl"
GIT_SETTINGS: Mapping[str, str] = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    **{
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", "AITBC"), ("EMAIL", "anchors@localhost"))
    },
}
"""What git must not do: ask anybody anything; and who its commits are by."""


class AnchorPlaceFailed(Exception):
    """Nothing could be read from a place, or written there; the message says why."""


class AnchorPlace(Protocol):
    """A place that keeps anchors."""

    name: str
    """For the log."""

    async def last(self) -> bytes | None:
        """The last anchor that it has, as far as it is known. Raises `AnchorPlaceFailed`."""

    async def put(self, line: bytes, height: int) -> None:
        """Keep one more, that of the block of this height. Raises `AnchorPlaceFailed`."""


class FilePlace:
    """A file to whose end anchors are written."""

    name = "file"

    def __init__(self, file: Path) -> None:
        self._file = file

    async def last(self) -> bytes | None:
        """Its last line."""
        try:
            return await asyncio.to_thread(self._last)
        except OSError as error:
            raise AnchorPlaceFailed(str(error)) from None

    def _last(self) -> bytes | None:
        if not self._file.exists():
            return None
        with self._file.open("rb") as source:
            source.seek(max(0, self._file.stat().st_size - LINE_BYTES_MAX))
            return last_line(source.read())

    async def put(self, line: bytes, height: int) -> None:
        """Append a line, and see it written."""
        try:
            await asyncio.to_thread(self._append, line)
        except OSError as error:
            raise AnchorPlaceFailed(str(error)) from None

    def _append(self, line: bytes) -> None:
        # One write of a short line at the end of a file: two writers never mix theirs.
        handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)


class GitPlace:
    """A branch of a git repository that has one file of anchors; it is only ever added to."""

    name = "git"

    def __init__(self, remote: str, branch: str, folder: Path) -> None:
        """`folder` is for git's own objects; it can be thrown away at any time."""
        self._remote = remote
        self._ref = f"refs/heads/{branch}"
        self._folder = folder
        self._parent = ""
        self._content = b""

    async def last(self) -> bytes | None:
        """The last line of the file at the tip of the branch, which is fetched."""
        await self._git("init", "--quiet", "--bare", str(self._folder), inside=False)
        self._parent, self._content = "", b""
        if await self._git("ls-remote", "--heads", "--", self._remote, self._ref):
            await self._git("fetch", "--quiet", "--no-tags", "--", self._remote, self._ref)
            self._parent = (await self._git("rev-parse", "FETCH_HEAD")).decode().strip()
            self._content = await self._git("cat-file", "blob", f"FETCH_HEAD:{GIT_FILE}")
        return last_line(self._content)

    async def put(self, line: bytes, height: int) -> None:
        """Push a commit upon what was fetched last; git refuses it where somebody else has pushed meanwhile."""
        blob = (await self._git("hash-object", "-w", "--stdin", given=self._content + line)).decode().strip()
        tree = await self._git("mktree", given=f"100644 blob {blob}\t{GIT_FILE}\n".encode())
        upon = ["-p", self._parent] if self._parent else []
        made = await self._git("commit-tree", tree.decode().strip(), *upon, "-m", f"Anchor block {height}")
        await self._git("push", "--quiet", "--", self._remote, f"{made.decode().strip()}:{self._ref}")

    async def _git(self, *arguments: str, given: bytes = b"", inside: bool = True) -> bytes:
        """What git writes. Raises `AnchorPlaceFailed` with what it complains of."""
        where = ("-C", str(self._folder)) if inside else ()
        try:
            git = await asyncio.create_subprocess_exec(
                "git",
                *where,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**GIT_SETTINGS, **os.environ},
            )
        except OSError as error:
            raise AnchorPlaceFailed(f"git does not run: {error}") from None
        try:
            async with asyncio.timeout(SECONDS):
                told, complaint = await git.communicate(given)
        except TimeoutError:
            raise AnchorPlaceFailed(f"git {arguments[0]} took too long") from None
        finally:
            if git.returncode is None:
                await end_process(git)
        if git.returncode:
            said = complaint.decode(errors="replace").strip().replace(self._remote, "the remote")
            raise AnchorPlaceFailed(f"git {arguments[0]}: {said[:300]}")
        return told


class UrlPlace:
    """An endpoint that anchors are posted to, under the egress policy; what it has is known only from its answers."""

    name = "url"

    def __init__(self, url: str, egress: Egress | None) -> None:
        self._url = url
        self._egress = egress
        self._last: bytes | None = None

    async def last(self) -> bytes | None:
        """The last one that it took from this process: after a start it gets the newest at once."""
        return self._last

    async def put(self, line: bytes, height: int) -> None:
        """Post a line as JSON; whatever answers 2xx has it."""
        if self._egress is None:
            raise AnchorPlaceFailed("this process sends nothing outside")
        headers = {"content-type": "application/json"}
        try:
            answer = await self._egress.fetch(self._url, SECONDS, body=line.rstrip(b"\n"), headers=headers)
        except Unreachable as error:
            raise AnchorPlaceFailed(str(error)) from None
        if not 200 <= answer.status < 300:
            raise AnchorPlaceFailed(f"it answers {answer.status}")
        self._last = line


def last_line(content: bytes) -> bytes | None:
    """The last line of what a place has; none where it has nothing."""
    lines = content.splitlines()
    return lines[-1] if lines else None
