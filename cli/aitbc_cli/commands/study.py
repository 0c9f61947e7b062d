"""Studies: parameters looked for by trials, each of which is a job."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import FAILED, NOT_FOUND, REFUSED, Stop
from aitbc_cli.id_completion import STUDIES
from aitbc_cli.long_work import LongWork
from aitbc_cli.output import Column, column, columns
from aitbc_cli.study_plot import picture
from aitbc_cli.terminal import say
from aitbc_cli.written import read_written

PATH = "/api/v1/ai/studies"
COUNTS = columns("begun", "complete", "pruned", "failed", "trials", kind="number")
BRIEF = (*columns("id", "name", "state"), *COUNTS, *columns("best", "best_value", "spent", "budget"))
FULL = (*BRIEF, *columns("direction", "reserved", "importance", "created_at", "ended_at"))
RESULTS = (
    *columns("number", "state"),
    Column("VALUE", "value", "number"),
    *columns("params", "spent", "job", "message"),
)
EXAMPLE = "docs/studies.md has an example"
Which = Annotated[str, typer.Argument(metavar="STUDY", help="Its id, study_…", autocompletion=STUDIES)]
File = Annotated[str, typer.Argument(metavar="FILE", help="The study as YAML or JSON; - reads JSON.")]
app = noun("study", "Studies: parameters looked for by trials that are jobs, under one budget.")


def _describe(study: dict[str, Any]) -> str:
    best_value = "none yet" if study["best_value"] is None else f"{study['best_value']:.6g}"
    over = study["complete"] + study["pruned"] + study["failed"]
    return f"{over} of {study['trials']} trials have ended, the best: {best_value}"


def _tell_end(study: dict[str, Any]) -> int:
    if study["best"] is not None:
        return 0
    say(f"aitbc: {study['id']} {study['state']}, and no trial has a value")
    return FAILED


WORK = LongWork(
    noun="study",
    path=PATH,
    brief=BRIEF,
    full=FULL,
    parts="results",
    part_columns=RESULTS,
    over={"complete", "exhausted", "failed", "canceled"},
    describe=_describe,
    tell_end=_tell_end,
)


@command(
    app, "create", examples=["aitbc study create rate.json", "aitbc study create rate.yaml --dry-run"], changes=True
)
def create(call: Call, file: File) -> None:
    """Create a study, whose trials begin by themselves."""
    call.out.one(call.change("POST", PATH, read_written(file, hint=EXAMPLE)), BRIEF)


@command(app, "run", examples=["aitbc study run rate.json --timeout 5m"], changes=True)
def run(call: Call, file: File) -> int:
    """Create a study and wait until it has ended; Ctrl-C leaves it running. Exit code 0 where it has a best trial."""
    study = call.change("POST", PATH, read_written(file, hint=EXAMPLE))
    if "id" not in study:  # a dry run
        call.out.one(study, BRIEF)
        return 0
    return WORK.wait(call, study["id"])


@command(app, "wait", examples=["aitbc study wait study_01… --timeout 5m"], ends=[NOT_FOUND])
def wait_for(call: Call, study: Which) -> int:
    """Wait until a study has ended; exit code 0 where it has a best trial, 7 when the time is up."""
    return WORK.wait(call, study)


@command(app, "list", examples=["aitbc study list", "aitbc study list --state running"], lists=True)
def list_studies(
    call: Call,
    state: Annotated[str | None, typer.Option("--state", help="running, paused, complete, exhausted, …")] = None,
) -> None:
    """List your studies from the newest on."""
    call.list(PATH, BRIEF, state=state)


@command(app, "show", examples=["aitbc study show study_01…", "aitbc study show study_01… --json"], ends=[NOT_FOUND])
def show(call: Call, study: Which) -> None:
    """Show a study with each trial: its parameters, what it came to, and what it cost."""
    WORK.show(call, WORK.get(call, study))


@command(
    app, "best", examples=["aitbc study best study_01…", "aitbc study best study_01… --json"], ends=[NOT_FOUND, FAILED]
)
def best(call: Call, study: Which) -> None:
    """Show the trial with the best value. Ends with 1 where no trial has a value yet."""
    found = _with_a_best(call, study)
    call.out.one(found["results"][found["best"]], (*RESULTS, column("reports")), name="params")


@command(app, "plot", examples=["aitbc study plot study_01… study.svg"], ends=[NOT_FOUND, FAILED])
def plot(
    call: Call,
    study: Which,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where the picture goes, as SVG; - for standard output.")],
) -> None:
    """Draw what the trials came to, and how much each parameter matters, as SVG."""
    found = _with_a_best(call, study)
    drawn = picture(found)
    if file == "-":
        call.out.text(drawn)
        return
    Path(file).write_text(drawn, encoding="utf-8")
    say(f"aitbc: wrote {file}")


@command(app, "pause", examples=["aitbc study pause study_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def pause(call: Call, study: Which) -> None:
    """Begin no further trial; those under way go on."""
    WORK.change(call, study, "pause")


@command(app, "resume", examples=["aitbc study resume study_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def resume(call: Call, study: Which) -> None:
    """Go on with a paused study."""
    WORK.change(call, study, "resume")


@command(app, "cancel", examples=["aitbc study cancel study_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def cancel(call: Call, study: Which) -> None:
    """End a study: the jobs of its trials are canceled, and their money goes back."""
    WORK.change(call, study, "cancel")


def _with_a_best(call: Call, study: str) -> dict[str, Any]:
    found = WORK.get(call, study)
    if found["best"] is None:
        raise Stop(f"{found['id']} has no trial with a value yet", exit_code=FAILED, code="no_data")
    return found
