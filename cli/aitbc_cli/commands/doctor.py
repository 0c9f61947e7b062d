"""The doctor."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import DONE, FAILED, usage
from aitbc_cli.output import columns

app = noun("doctor", "Check this installation; each fault with its exact fix.", alone=True)


@command(
    app,
    "doctor",
    examples=["aitbc doctor", "aitbc doctor --only server --only key", "aitbc doctor -o json --url https://…"],
)
def doctor(
    call: Call,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CHECK", help="Only this check; again for more.")
    ] = None,
) -> int:
    """Examine this installation and its server, and say for each fault what to type against it. Nothing is changed.

    Exit code 1 when a check failed; warnings, and what is skipped because it does not apply, leave it at 0.
    """
    from aitbc_cli.doctor.case import Case
    from aitbc_cli.doctor.rounds import CHECK_SECONDS, CHECKS, examine
    from aitbc_cli.settings import Flags
    from aitbc_cli.terminal import progress

    known = [check.name for check in CHECKS]
    for name in only or ():
        if name not in known:
            raise usage(f"there is no check {name!r}", hint=f"checks: {', '.join(known)}")
    chosen = [check for check in CHECKS if not only or check.name in only]
    given = call.options
    case = Case(flags=Flags(url=given.url, key_file=given.api_key_file, profile=given.profile))
    with progress("examining"):
        rows = examine(case, chosen, seconds=call.seconds or CHECK_SECONDS)
    _show(call, rows)
    return FAILED if any(row["result"] == "failed" for row in rows) else DONE


def _show(call: Call, rows: list[dict[str, str]]) -> None:
    """The table, and below it each fix on lines of its own, as it is pasted."""
    if not call.out.is_for_people or call.options.fields:
        call.out.rows(rows, columns("check", "result", "message", "fix"), name="check")
        return
    call.out.rows(rows, columns("check", "result", "message"), name="check")
    faults = [row for row in rows if row["result"] in ("failed", "warning") and row["fix"]]
    for row in faults:
        fix = "\n".join(f"    {line}" for line in row["fix"].splitlines())
        call.out.text(f"\n{row['result']}: {row['check']}: {row['message']}\n{fix}")
    counts = {result: sum(row["result"] == result for row in rows) for result in ("ok", "warning", "failed", "skipped")}
    call.out.text("\n" + ", ".join(f"{count} {result}" for result, count in counts.items() if count))
