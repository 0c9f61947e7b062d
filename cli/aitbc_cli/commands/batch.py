"""Batches: requests in a file, done within a day for less."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, usage
from aitbc_cli.files import read, save
from aitbc_cli.output import Column, column, columns
from aitbc_cli.terminal import progress
from aitbc_cli.v1_pages import v1_pages

PATH, FILES = "/v1/batches", "/v1/files"
INPUT_BYTES_MAX = 1 << 30
LOOK_SECONDS = 1.0
OVER = ("completed", "failed", "expired", "cancelled")
SHOWN = (
    *columns("id", "status", "endpoint", "model"),
    Column("DONE", "request_counts.completed", "number"),
    Column("FAILED", "request_counts.failed", "number"),
    Column("OF", "request_counts.total", "number"),
    Column("SPENT", "aitbc.spent", "number"),
)
DETAIL = (
    *SHOWN,
    *(column(name) for name in ("input_file_id", "output_file_id", "error_file_id", "created_at", "expires_at")),
)
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id, batch_…")]
app = noun("batch", "Batches: requests in a file, done within a day for less.")


@command(
    app,
    "run",
    examples=["aitbc batch run requests.jsonl --wait", "aitbc batch run texts.jsonl --endpoint /v1/embeddings"],
    changes=True,
)
def run(
    call: Call,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines, one request each; - for standard input.")],
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", help="What each line asks: the path of a request of /v1; else as the first line says."
        ),
    ] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the batch has ended.")] = False,
) -> None:
    """Do each line of a file as a job of its own, at the price of work that can wait."""
    content = read(file, bytes_max=INPUT_BYTES_MAX)
    asked = endpoint or _endpoint_of(content)
    body = {"input_file_id": "file_…", "endpoint": asked, "completion_window": "24h"}
    if not call.dry_run:
        name = "requests.jsonl" if file == "-" else Path(file).name
        body["input_file_id"] = call.api.send_form(FILES, {"purpose": "batch"}, name, content)["id"]
    batch = call.change("POST", PATH, body)
    with progress("waiting for the batch"):
        while wait and batch["status"] not in OVER:
            time.sleep(LOOK_SECONDS)
            batch = call.api.get(f"{PATH}/{part(batch['id'])}")
    call.out.one(batch, DETAIL)


def _endpoint_of(content: bytes) -> str:
    """The path that the first line asks. Raises a usage error where it says none."""
    try:
        found = json.loads(content.partition(b"\n")[0])["url"]
    except (ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, str):
        raise usage("the first line has no url", hint='write {"custom_id": …, "url": "/v1/…", "body": …} on each line')
    return found


@command(app, "list", examples=["aitbc batch list", "aitbc batch list --json --fields id,status"], lists=True)
def list_batches(call: Call) -> None:
    """List your batches, the newest first."""
    call.out.rows(v1_pages(call, PATH), SHOWN)


@command(app, "show", examples=["aitbc batch show batch_01…"], ends=[NOT_FOUND])
def show(call: Call, batch: BatchId) -> None:
    """Show a batch: how many of its lines are done, what they cost, and where their answers are."""
    call.out.one(call.api.get(f"{PATH}/{part(batch)}"), DETAIL)


@command(app, "cancel", examples=["aitbc batch cancel batch_01…"], changes=True, ends=[NOT_FOUND])
def cancel(call: Call, batch: BatchId) -> None:
    """Cancel what no miner has taken; what is worked on is finished and paid."""
    call.out.one(call.change("POST", f"{PATH}/{part(batch)}/cancel", natural=True), DETAIL)


@command(
    app,
    "results",
    examples=["aitbc batch results batch_01… > answers.jsonl", "aitbc batch results batch_01… --errors"],
    ends=[NOT_FOUND],
)
def results(
    call: Call,
    batch: BatchId,
    to: Annotated[str, typer.Option("--to", metavar="FILE", help="Where to write them; - for standard output.")] = "-",
    *,
    errors: Annotated[bool, typer.Option("--errors", help="What failed and why, instead of the answers.")] = False,
) -> None:
    """Write the answers of a batch that has ended, one JSON line for each request."""
    found = call.api.get(f"{PATH}/{part(batch)}")
    file = found["error_file_id" if errors else "output_file_id"]
    if found["status"] not in OVER:
        raise usage(f"the batch is {found['status']}; its files are written at its end")
    if file is not None:
        with call.api.stream(f"{FILES}/{part(file)}/content") as flow:
            save(to, flow.pieces())
