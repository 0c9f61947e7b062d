"""Backups of a whole installation."""

from pathlib import Path
from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import REFUSED, UNAVAILABLE
from aitbc_cli.output import columns
from aitbc_cli.terminal import progress, say

app = noun("backup", "Back the whole installation up into one file.", alone=True)


@command(
    app,
    "backup",
    examples=["aitbc backup aitbc.backup", "aitbc backup /srv/backups/aitbc.backup --json"],
    server=False,
    ends=[REFUSED, UNAVAILABLE],
)
def backup(
    call: Call, file: Annotated[Path, typer.Argument(metavar="FILE", help="Where; it must not be lost or read.")]
) -> None:
    """Back up every schema in one snapshot, the keys and the artifacts, while the server runs or not.

    The file holds every secret of the installation, so it is readable by you only: keep it like one.
    """
    from aitbc.app import backup as make

    with progress("backing up"):
        manifest = make(file)
    report = {"file": str(file), "bytes": file.stat().st_size, "version": manifest.version}
    report |= {"created_at": manifest.created_at.isoformat(), "schema": manifest.schema}
    call.out.one(report, columns("file", "bytes", "version", "created_at"), name="file")
    say("restore it into an empty place with: AITBC_STATE_DIR=… aitbc restore FILE")
