"""The chain: exported, and verified without a server."""

import io
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.commands.block import FULL
from aitbc_cli.commands.receipt import TrustedKey, not_verified
from aitbc_cli.exits import UNAVAILABLE, Stop, usage
from aitbc_cli.output import columns
from aitbc_cli.terminal import Progress, progress, say, size
from aitbc_cli.times import read, seconds_of

PATH = "/api/v1/trading"
TAIL_BYTES = 1 << 16
app = noun("chain", "Export the chain, and verify it offline.")


@command(app, "export", examples=["aitbc chain export chain.jsonl", "aitbc chain export - | gzip > chain.jsonl.gz"])
def export(call: Call, file: Annotated[str, typer.Argument(metavar="FILE", help="Where; - prints it.")]) -> None:
    """Export the whole chain up to its last block, one JSON value a line."""
    from aitbc_cli import files

    with call.api.stream(f"{PATH}/chain/export") as flow, progress("exporting") as shown:
        count = files.save(file, _whole(flow.pieces(), shown))
    if file != files.STANDARD:
        call.out.value({"file": file, "bytes": count}, f"{file}: {size(count)}", name=file)


@command(
    app,
    "verify",
    examples=[
        "aitbc chain verify chain.jsonl",
        "aitbc chain verify chain.jsonl --key bPA_vt6… --head sha256:…",
        "aitbc chain verify chain.jsonl --anchors anchors.jsonl --anchors git+https://example.org/anchors.git",
    ],
    server=False,
)
def verify(
    call: Call,
    file: Annotated[str, typer.Argument(metavar="FILE", help="An export; - reads it.")],
    key: TrustedKey = None,
    head: Annotated[
        str | None, typer.Option("--head", help="The hash of the block it must end at, known from elsewhere.")
    ] = None,
    anchors: Annotated[
        list[str] | None,
        typer.Option(
            "--anchors", metavar="PLACE", help="Signed heads kept elsewhere: a file, a URL, git+REMOTE[#BRANCH]."
        ),
    ] = None,
    anchor_age: Annotated[
        str, typer.Option("--anchor-age", help="Warn where the newest anchor of a place is older than this.")
    ] = "1d",
) -> None:
    """Verify an export without a server: every record, signature, balance and block, in bounded memory.

    The first thing that does not hold is named, with its block, record, field and line; the exit code is then 1.
    """
    import sys
    from pathlib import Path

    from aitbc_cli import files

    if file == files.STANDARD:
        checked = _verified(sys.stdin.buffer, 0, file, key, head)
    else:
        with files.opened(Path(file)) as source:
            checked = _verified(source, Path(file).stat().st_size, file, key, head)
    report = {name: getattr(checked, name) for name in ("chain", "height", "head", "records", "transactions")}
    if anchors:
        report |= _anchored(file, anchors, anchor_age)
    report |= {name: getattr(checked, name) for name in ("entries", "receipts", "accounts")}
    report |= {"verified": True, "file": file, "keys": sorted(checked.keys), "trusted": bool(key)}
    shown = columns("chain", "height", "head", "records", "transactions", "entries", "receipts", "accounts", "keys")
    call.out.one(report, shown, name="head")
    call.out.text("chain verified")
    if not key:
        say("signed by the keys above; --key KEY makes sure that they are the ones you trust")


def _anchored(file: str, places: list[str], age: str) -> dict[str, Any]:
    """Compare an export with signed heads that were kept elsewhere; what was found. Raises `Stop`."""
    from aitbc.kernel.crypto.chain_format import ChainError
    from aitbc.kernel.primitives.clock import now
    from aitbc_cli import files
    from aitbc_cli.anchor_places import held_against

    if file == files.STANDARD:
        raise usage("--anchors needs a file: it is read once more for each place")
    found = {}
    for place in places:
        try:
            found[place] = one = held_against(file, place)
        except ChainError as error:
            raise not_verified(f"{place}: {error}", error) from None
        if not one.count:
            say(f"warning: {place} has no anchors")
        elif (now() - read(one.time)).total_seconds() > seconds_of(age):
            say(f"warning: the newest anchor of {place} is of {one.time}; what came since is not anchored")
    newest = max(found.values(), key=lambda one: one.height)
    return {
        "anchors": sum(one.count for one in found.values()),
        "anchored_height": newest.height,
        "anchored_at": newest.time or None,
        "anchored_by": {place: {"anchors": one.count, "height": one.height} for place, one in found.items()},
    }


@command(app, "keys", examples=["aitbc chain keys", "aitbc chain keys -q"])
def keys(call: Call) -> None:
    """List the public keys that the node signs, or once signed, receipts and blocks with; any caller may ask."""
    found = call.api.get(f"{PATH}/chain/keys", public=True)["data"]
    call.out.rows(found, columns("public_key", "first_used_at"), name="public_key")


@command(app, "head", examples=["aitbc chain head", "aitbc chain head -q"])
def head(call: Call) -> None:
    """Show the last block."""
    call.out.one(call.api.get(f"{PATH}/blocks/head"), FULL, name="hash")


def _whole(pieces: Iterator[bytes], shown: Progress) -> Iterator[bytes]:
    """The pieces as they are. Raises `Stop` at the end when the last line is not the export's own end."""
    total, tail = 0, b""
    for piece in pieces:
        total += len(piece)
        tail = (tail + piece)[-TAIL_BYTES:]
        shown.update(f"exporting, {size(total)}")
        yield piece
    if not tail.endswith(b"\n") or not tail[:-1].rpartition(b"\n")[2].startswith(b'{"end":'):
        raise Stop(
            f"the export was cut short after {size(total)}",
            exit_code=UNAVAILABLE,
            code="connection_broken",
            hint="run it again",
        )


class _Counted(io.RawIOBase):
    """A file that reports how far it was read."""

    def __init__(self, source: BinaryIO, total: int, shown: Progress) -> None:
        self._source, self._total, self._shown = source, total, shown
        self._read = self._told = 0

    def readline(self, size_: int | None = -1, /) -> bytes:
        """The next line."""
        line = self._source.readline(-1 if size_ is None else size_)
        self._read += len(line)
        if self._read - self._told >= 1 << 20:
            self._told = self._read
            share = f"{self._read * 100 // self._total} %" if self._total else size(self._read)
            self._shown.update(f"verifying, {share}")
        return line


def _verified(source: BinaryIO, total: int, name: str, key: list[str] | None, head_: str | None) -> Any:
    from aitbc.kernel.crypto.chain_format import ChainError
    from aitbc.kernel.crypto.chain_verifier import verify_export

    try:
        with progress("verifying") as shown:
            counted: Any = _Counted(source, total, shown)
            return verify_export(counted, trusted_keys=key or (), head=head_)
    except ChainError as error:
        raise not_verified(f"{name}: {error}", error) from None
