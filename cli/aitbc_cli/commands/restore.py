"""A backup brought back."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import REFUSED, UNAVAILABLE
from aitbc_cli.output import columns
from aitbc_cli.terminal import progress

app = noun("restore", "Restore a backup into an empty place, and verify it.", alone=True)


@command(
    app,
    "restore",
    examples=["AITBC_STATE_DIR=/srv/aitbc aitbc restore aitbc.backup"],
    server=False,
    ends=[REFUSED, UNAVAILABLE],
)
def restore(
    call: Call, file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `aitbc backup`.")]
) -> None:
    """Restore an installation into the configured state folder, which must be empty, and verify what came of it.

    No server may run there; start it afterwards. Keys, accounts, ledger and chain are those of the backup.
    """
    from aitbc.app import restore as bring_back

    with progress("restoring"):
        done = bring_back(file)
    report: dict[str, Any] = {
        "file": str(file),
        "version": done.manifest.version,
        "created_at": done.manifest.created_at.isoformat(),
    }
    report |= {"artifacts": done.artifacts, "verified": list(done.verified)}
    call.out.one(report, columns("file", "version", "created_at", "artifacts", "verified"), name="file")
    call.out.text("restored and verified")
