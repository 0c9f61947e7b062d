"""Files: what requests under `/v1` read, and what batches write."""

from pathlib import Path
from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.files import read, save
from aitbc_cli.output import Column, columns
from aitbc_cli.v1_pages import v1_pages

PATH = "/v1/files"
FILE_BYTES_MAX = 1 << 30
SHOWN = (
    *columns("id", "filename", "purpose"),
    Column("BYTES", "bytes", "number"),
    *columns("created_at", "expires_at"),
)
FileId = Annotated[str, typer.Argument(metavar="FILE", help="The file's id, file_…")]
Purpose = Annotated[str, typer.Option("--purpose", help="What it is for, as a client of the OpenAI API says it.")]
app = noun("file", "Files: what requests under /v1 read, and what batches write.")


@command(app, "list", examples=["aitbc file list", "aitbc file list --purpose batch --json"], lists=True)
def list_files(
    call: Call,
    purpose: Annotated[str | None, typer.Option("--purpose", help="Only files of this purpose.")] = None,
) -> None:
    """List your files, the newest first."""
    call.out.rows(v1_pages(call, PATH, purpose=purpose), SHOWN)


@command(app, "upload", examples=["aitbc file upload requests.jsonl"], changes=True)
def upload(
    call: Call,
    file: Annotated[str, typer.Argument(metavar="PATH", help="The file; - for standard input.")],
    purpose: Purpose = "batch",
) -> None:
    """Keep a file on the server, under an id that requests name."""
    name = "file" if file == "-" else Path(file).name
    if call.dry_run:
        call.change("POST", PATH, {"purpose": purpose, "file": name})
    content = read(file, bytes_max=FILE_BYTES_MAX)
    call.out.one(call.api.send_form(PATH, {"purpose": purpose}, name, content), SHOWN)


@command(app, "show", examples=["aitbc file show file_01…"], ends=[NOT_FOUND])
def show(call: Call, file: FileId) -> None:
    """Show a file: its name, size and purpose, and until when it is kept."""
    call.out.one(call.api.get(f"{PATH}/{part(file)}"), SHOWN)


@command(
    app,
    "download",
    examples=["aitbc file download file_01… > answers.jsonl", "aitbc file download file_01… --to answers.jsonl"],
    ends=[NOT_FOUND],
)
def download(
    call: Call,
    file: FileId,
    to: Annotated[str, typer.Option("--to", metavar="PATH", help="Where to write it; - for standard output.")] = "-",
) -> None:
    """Write what a file holds."""
    found = call.api.get(f"{PATH}/{part(file)}")
    with call.api.stream(f"{PATH}/{part(found['id'])}/content") as flow:
        save(to, flow.pieces())


@command(app, "delete", examples=["aitbc file delete file_01… --yes"], changes=True, ends=[NOT_FOUND])
def delete(call: Call, file: FileId) -> None:
    """Delete a file."""
    call.confirm(f"Delete {file}?")
    call.out.one(call.change("DELETE", f"{PATH}/{part(file)}"), columns("id", "deleted"))
