"""Where anchors are read from: a file, a URL that answers with lines of them, or a branch of a git repository."""

import io
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aitbc_cli import files
from aitbc_cli.anchors import Anchored, check_anchors, read_anchors
from aitbc_cli.exits import UNAVAILABLE, Stop

GIT = "git+"
"""How the address of a repository begins, as pip has it: `git+https://…`, `git+ssh://…`, `git+/a/folder`."""
BRANCH = "anchors"
FILE = "anchors.jsonl"
BYTES_MAX = 256 * 1024 * 1024
SECONDS = 60.0


@contextmanager
def anchors_at(place: str) -> Iterator[BinaryIO]:
    """The anchors of a place, to read. Raises `Stop` where there are none to be had."""
    if place.startswith(GIT):
        yield io.BytesIO(_from_git(place.removeprefix(GIT)))
    elif place.startswith(("https://", "http://")):
        yield io.BytesIO(_from_url(place))
    else:
        with files.opened(Path(place)) as source:
            yield source


def held_against(export: str, place: str) -> Anchored:
    """What was found of a place's anchors in an export that was verified. Raises `ChainError`, `Stop`."""
    with anchors_at(place) as source:
        known = read_anchors(source)
    with files.opened(Path(export)) as source:
        return check_anchors(source, known)


def _from_url(url: str) -> bytes:
    from urllib.request import Request, urlopen

    request = Request(url, headers={"accept": "application/x-ndjson, */*"})  # noqa: S310 - the caller has looked
    try:
        with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            content: bytes = answer.read(BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise _unreachable(url, str(error)) from None
    if len(content) > BYTES_MAX:
        raise _unreachable(url, f"its answer has more than {BYTES_MAX} bytes")
    return content


def _from_git(address: str) -> bytes:
    """The file at the tip of the branch, `anchors` unless `#` names another."""
    remote, _, branch = address.partition("#")
    with tempfile.TemporaryDirectory() as folder:
        _git(remote, folder, "init", "--quiet", "--bare")
        _git(
            remote, folder, "fetch", "--quiet", "--depth=1", "--no-tags", "--", remote, f"refs/heads/{branch or BRANCH}"
        )
        return _git(remote, folder, "cat-file", "blob", f"FETCH_HEAD:{FILE}")


def _git(remote: str, folder: str, *arguments: str) -> bytes:
    environment = {"GIT_TERMINAL_PROMPT": "0", **os.environ}
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments],  # noqa: S607 - the git of whoever asks
            capture_output=True,
            timeout=SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreachable(remote, str(error)) from None
    if done.returncode:
        raise _unreachable(remote, done.stderr.decode(errors="replace").strip()[:300])
    return done.stdout


def _unreachable(place: str, reason: str) -> Stop:
    return Stop(f"{place} has no anchors to read: {reason}", code="anchors_not_readable", exit_code=UNAVAILABLE)
