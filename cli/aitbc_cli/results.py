"""The result of a job: fetched, whole and unchanged, and shown as its kind is best read."""

import json
from collections.abc import Iterator
from typing import Any

from aitbc_cli.client import part
from aitbc_cli.command import Call
from aitbc_cli.exits import REFUSED, Stop
from aitbc_cli.output import Column, column, columns
from aitbc_cli.terminal import progress, size

ARTIFACTS = "/api/v1/ai/artifacts"
BRIEF = (
    *columns("id", "kind", "state", "reason"),
    Column("PRICE", "price", "number"),
    Column("MAX PRICE", "max_price", "number"),
    column("created_at"),
)
FULL = (
    *columns("id", "kind", "state", "reason", "fault", "price", "max_price", "unit", "units", "unit_price", "priority"),
    *columns("attempts", "attempts_max", "needs", "receipt", "input_digest", "output_digest"),
    *columns("created_at", "started_at", "completed_at", "expires_at", "kept_until"),
)
ENDED = columns("id", "state", "price", "units", "unit", "receipt")
ATTEMPTS = columns("number", "miner", "state", "fault", "reason", "message", "progress", "started_at", "ended_at")


def output_of(call: Call, job: dict[str, Any]) -> Any:
    """The output of a job that succeeded, an uploaded one included. Raises `Stop` where there is none."""
    if job["state"] != "succeeded":
        raise Stop(
            f"{job['id']} has no result: it is {job['state']} ({job['reason']})",
            exit_code=REFUSED,
            code="no_result",
            hint=f"aitbc job explain {job['id']}",
        )
    output = job["output"]
    if output is None:
        raise Stop(f"the result of {job['id']} is no longer kept", exit_code=REFUSED, code="result_removed")
    if is_artifact(output):
        return json.loads(b"".join(download(call, output["artifact"], output["digest"])))
    return output


def is_artifact(output: Any) -> bool:
    """Whether the output is kept as a file and only referred to."""
    return (
        isinstance(output, dict)
        and output.keys() >= {"artifact", "digest"}
        and output.keys()
        <= {
            "artifact",
            "digest",
            "bytes",
        }
    )


def download(call: Call, artifact: str, digest: str) -> Iterator[bytes]:
    """The content of an artifact. Raises `Stop` at its end when it is not what its digest says."""
    import hashlib

    seen, total = hashlib.sha256(), 0
    with call.api.stream(f"{ARTIFACTS}/{part(artifact)}") as flow, progress("downloading") as shown:
        for piece in flow.pieces():
            seen.update(piece)
            total += len(piece)
            shown.update(f"downloading, {size(total)}")
            yield piece
    if f"sha256:{seen.hexdigest()}" != digest:
        raise Stop(f"{artifact} did not arrive whole: its content has another digest", code="wrong_digest")


def save(call: Call, job: dict[str, Any], file: str) -> int:
    """Write the output as JSON into a file, and give its size."""
    from aitbc_cli import files

    content = json.dumps(output_of(call, job), ensure_ascii=False).encode() + b"\n"
    return files.save(file, [content])


def text_of(kind: str, output: Any) -> str:
    """An output for people: vectors as numbers, recognised text as text, an answer as what was said."""
    if kind == "embed" and isinstance(output, dict) and "vectors" in output:
        lines = [f"{output['model']}, {output['dimensions']} dimensions"]
        return "\n".join([*lines, *(json.dumps(vector) for vector in output["vectors"])])
    if kind == "rerank" and isinstance(output, dict) and "scores" in output:
        ranked = sorted(enumerate(output["scores"]), key=lambda one: -one[1])
        return "\n".join([str(output["model"]), *(f"{score:9.6f}  document {at}" for at, score in ranked)])
    if kind == "ocr" and isinstance(output, dict) and "text" in output:
        return str(output["text"])
    if kind == "chat" and isinstance(output, dict) and "message" in output:
        return str(output["message"].get("content"))
    if kind in ("command", "container") and isinstance(output, dict) and "stdout" in output:
        parts = [str(output["stdout"]).rstrip("\n")]
        if output.get("stderr"):
            parts.append("standard error:\n" + str(output["stderr"]).rstrip("\n"))
        if output.get("truncated"):
            parts.append("(cut: it wrote more than is kept)")
        parts += [f"/out/{name}: {size(made['bytes'])}" for name, made in (output.get("files") or {}).items()]
        return "\n".join([*parts, f"exit code {output.get('exit_code')}"])
    return json.dumps(output, ensure_ascii=False, indent=2)


def show_ended(call: Call, job: dict[str, Any], file: str | None) -> None:
    """What became of a job: its price, its receipt, and its result, or the file that the result was written to."""
    from aitbc_cli.terminal import say

    if file is not None and job["state"] == "succeeded":
        count = save(call, job, file)
        say(f"the result is in {file} ({size(count)})")
    elif job["state"] == "succeeded" and call.out.form in ("table", "json", "jsonl"):
        job = {**job, "output": output_of(call, job)}
    call.out.one(job, ENDED)
    if file is None and job["state"] == "succeeded" and not call.options.fields:
        call.out.text("\n" + text_of(job["kind"], job["output"]))
