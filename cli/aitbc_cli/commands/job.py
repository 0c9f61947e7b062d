"""Jobs: listed, shown, waited for, followed, explained and stopped."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli import following
from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.commands.job_submit import app as submit
from aitbc_cli.exits import NOT_FOUND, PARTLY, REFUSED, Stop
from aitbc_cli.following import PATH
from aitbc_cli.id_completion import JOBS
from aitbc_cli.output import Column, columns
from aitbc_cli.results import ATTEMPTS, BRIEF, FULL, download, output_of, save, show_ended, text_of
from aitbc_cli.terminal import safe, say, size
from aitbc_cli.times import length, shown

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Its id, job_…", autocompletion=JOBS)]
Out = Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write the result here as JSON.")]
app = noun("job", "Submit work, watch it, get its result.")
app.add_typer(submit)


@command(app, "list", examples=["aitbc job list", "aitbc job list --state queued --json"], lists=True)
def list_jobs(
    call: Call,
    state: Annotated[
        str | None, typer.Option("--state", "--status", help="queued, leased, running, succeeded, failed, …")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only jobs of this kind.")] = None,
) -> None:
    """List your jobs from the newest on; an admin sees everybody's."""
    call.list(PATH, BRIEF, state=state, kind=kind)


@command(app, "show", examples=["aitbc job show job_01…", "aitbc job show job_01… --json"], ends=[NOT_FOUND])
def show(call: Call, job: JobId) -> None:
    """Show a job with every attempt."""
    answer = _job(call, job)
    if call.out.is_for_people and not call.options.fields:
        answer["attempts"] = _attempts(answer)
    call.out.one(answer, FULL)
    if call.out.is_for_people and answer["history"] and not call.options.fields:
        call.out.text("")
        call.out.rows(answer["history"], ATTEMPTS)


@command(
    app, "result", examples=["aitbc job result job_01…", "aitbc job result job_01… --out result.json"], ends=[3, 5]
)
def result(call: Call, job: JobId, out: Out = None) -> None:
    """Print the result of a job that succeeded, or write it into a file."""
    answer = _job(call, job)
    if out is not None:
        count = save(call, answer, out)
        call.out.value({"file": out, "bytes": count}, f"the result is in {out} ({size(count)})", name=out)
        return
    output = output_of(call, answer)
    call.out.value(output, safe(text_of(answer["kind"], output), lines=True))


@command(
    app,
    "files",
    examples=["aitbc job files job_01…", "aitbc job files job_01… --to results"],
    ends=[NOT_FOUND, REFUSED],
)
def files(
    call: Call,
    job: JobId,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where they go; the job's id unless given.")] = Path(),
) -> None:
    """Bring the files here that a container left in /out; a file that is there already is replaced."""
    from aitbc_cli import files as local

    answer = _job(call, job)
    folder = to if to != Path() else Path(job)
    rows = []
    for name, made in (output_of(call, answer).get("files") or {}).items():
        place = folder / name
        if not place.resolve().is_relative_to(folder.resolve()):
            raise Stop(f"{name!r} does not stay in {folder}", code="unsafe_name")
        place.parent.mkdir(parents=True, exist_ok=True)
        rows.append(
            {"file": str(place), "bytes": local.save(str(place), download(call, made["artifact"], made["digest"]))}
        )
    call.out.rows(rows, (*columns("file"), Column("BYTES", "bytes", "number")), name="file")


@command(
    app, "wait", examples=["aitbc job wait job_01… --timeout 5m", "aitbc job wait job_01… --json"], ends=[NOT_FOUND]
)
def wait(call: Call, job: JobId, out: Out = None) -> int:
    """Wait until a job has ended; exit code 0 only if it succeeded, 7 when the time is up. Ctrl-C leaves it running."""
    answer = following.wait(call, job)
    show_ended(call, answer, out)
    return following.outcome(answer)


@command(app, "watch", examples=["aitbc job watch job_01…", "aitbc job watch job_01… -o jsonl"], ends=[NOT_FOUND])
def watch(call: Call, job: JobId) -> int:
    """Show what happens to a job as it happens, until it has ended; in JSON a line for each event.

    Exit code 0 only if the job succeeded. A restart of the server is waited through.
    """
    try:
        for event in following.events(call, job):
            _tell(call, event)
        return following.outcome(_job(call, job))
    except KeyboardInterrupt:
        raise following.detached(job) from None


@command(app, "logs", examples=["aitbc job logs job_01…", "aitbc job logs job_01… -f"], lists=True, ends=[NOT_FOUND])
def logs(
    call: Call,
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="With the time of each line.")] = False,
) -> None:
    """Print what a job's attempts wrote into its log."""
    if not follow:
        rows = call.pages(f"{PATH}/{part(job)}/logs")
        if not call.out.is_for_people:
            call.out.rows(rows, columns("attempt", "sequence", "at", "text"), name="text")
            return
        for line in rows:
            _log_line(call, line, timestamps=timestamps)
        return
    try:
        for event in following.events(call, job):
            if event["event"] != "log":
                continue
            if call.out.is_for_people:
                _log_line(call, event["data"], timestamps=timestamps)
            else:
                call.out.json_line(event["data"])
            call.out.stream.flush()
    except KeyboardInterrupt:
        raise following.detached(job) from None


@command(app, "explain", examples=["aitbc job explain job_01…", "aitbc job explain job_01… --json"], ends=[NOT_FOUND])
def explain(call: Call, job: JobId) -> None:
    """Say why a job is where it is: position, expected wait, how many miners each condition left, what would help."""
    answer = call.api.get(f"{PATH}/{part(job)}/explain")
    if not call.out.is_for_people or call.options.fields:
        call.out.one(answer, columns("job", "state", "reason", "summary", "suggestion"), name="job")
        return
    expected = answer["expected_wait"]
    low, high = expected["low_seconds"], expected["high_seconds"]
    answer["wait"] = f"{length(low)} to {length(high)}" if low is not None and high is not None else None
    answer["basis"] = expected["basis"]
    call.out.one(answer, columns("job", "state", "reason", "summary", "position", "wait", "basis", "suggestion"))
    if answer["filters"]:
        call.out.text("\nminers that each condition left:")
        numbers = (Column("BEFORE", "before", "number"), Column("AFTER", "after", "number"))
        call.out.rows(answer["filters"], (*columns("filter", "wanted"), *numbers))
    if answer["attempts"]:
        call.out.text("\nattempts:")
        call.out.rows(answer["attempts"], ATTEMPTS)


@command(
    app,
    "stop",
    examples=["aitbc job stop job_01…", "aitbc job stop job_01… --json"],
    changes=True,
    ends=[3, 5],
)
def stop(call: Call, job: JobId) -> None:
    """Finish a chat early: what came until now is its result, and is paid for with the prompt.
    Others can only be canceled.

    Its miner learns of it within a second or two; if it does not sign what it delivered, the money goes back. A job
    that no miner has is canceled.
    """
    path = f"{PATH}/{part(job)}"
    call.out.one(call.change("POST", f"{path}/stop", look=path), BRIEF)


@command(
    app,
    "cancel",
    examples=["aitbc job cancel job_01…", "aitbc job cancel $(aitbc job list -q)"],
    changes=True,
    ends=[3, 8],
)
def cancel(
    call: Call, jobs: Annotated[list[str], typer.Argument(metavar="JOB…", help="One or more.", autocompletion=JOBS)]
) -> int:
    """Cancel jobs that have not ended. The money goes back, and a miner at work is told to stop."""
    if len(jobs) == 1:
        path = f"{PATH}/{part(jobs[0])}"
        call.out.one(call.change("POST", f"{path}/cancel", look=path), BRIEF)
        return 0
    return _cancel_many(call, jobs)


def _cancel_many(call: Call, jobs: list[str]) -> int:
    """Each by itself; one that could not be stopped is reported: exit code 8, or its own where none was stopped."""
    from aitbc_cli.exits import Stop, usage

    if call.options.idempotency_key is not None:
        raise usage("an Idempotency-Key is for one job")
    if call.dry_run:
        call.out.rows([{"id": job, "dry_run": True} for job in jobs], columns("id", "dry_run"))
        return 0
    done: list[dict[str, Any]] = []
    last = REFUSED
    for job in jobs:
        try:
            done.append(call.api.post(f"{PATH}/{part(job)}/cancel", natural=True))
        except Stop as problem:
            last = problem.exit_code
            say(f"aitbc: {job}: {problem.message}")
    call.out.rows(done, BRIEF)
    if len(done) == len(jobs):
        return 0
    return PARTLY if done else last


def _attempts(job: dict[str, Any]) -> str:
    """How many there are, and how many of them count against the most there may be: the running one does not yet."""
    return f"{len(job['history'])}, of which {job['attempts']} count towards {job['attempts_max']}"


def _job(call: Call, job: str) -> dict[str, Any]:
    answer: dict[str, Any] = call.api.get(f"{PATH}/{part(job)}")
    return answer


def _tell(call: Call, event: dict[str, Any]) -> None:
    if not call.out.is_for_people:
        call.out.json_line(event)
        return
    data = event["data"]
    at = shown(str(data["at"]), utc=call.options.utc) + "  " if data.get("at") else ""
    if event["event"] == "log":
        words = f"log       {data.get('text')}"
    elif event["event"] == "part":
        words = f"part      {data.get('text')}"
    elif event["event"] == "progress":
        words = f"progress  {float(data.get('progress') or 0) * 100:.0f} %"
    else:
        facts = "  ".join(
            f"{key}={value}" for key, value in data.items() if key not in ("at", "state") and value is not None
        )
        words = f"{event['event']:<9} {data.get('state', '')}  {facts}"
    call.out.text(at + words.rstrip())
    call.out.stream.flush()


def _log_line(call: Call, line: dict[str, Any], *, timestamps: bool) -> None:
    at = shown(str(line["at"]), utc=call.options.utc) + "  " if timestamps else ""
    call.out.text(at + safe(str(line["text"])))
