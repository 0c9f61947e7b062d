#!/usr/bin/env bash
# typer 0.29.2: built on a click of its own; what the package click raises, gives or asks for means nothing to it.
#
# For years typer was a thin layer on click, and programs mixed the two. It needs no click any more and has a copy inside, so where
# click is installed too its exceptions pass through as faults: a UsageError ends with a traceback and 1 instead of a line and 2, an
# Exit(3) with 1 instead of 3, `click.get_current_context` has no context inside of a command.
# Libraries that raise click's exceptions from a helper (confirmations, file arguments) change a program's exit codes so.
#
# Seen with click 8.5.1, Python 3.11.7 on 2026-11-28:
#   click.UsageError: 1; click Exit(3): 1; typer.BadParameter: 2; typer Exit(3): 3; click's context: None
# What follows here: the command line uses typer alone, and a package that adds commands is told that a group of click's is none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check typer==0.29.2 click==8.5.1 >&2
cat >"$folder/program.py" <<'PY'
import click
import typer

app = typer.Typer()


@app.command()
def one() -> None:
    raise click.UsageError("not so")


@app.command()
def two() -> None:
    raise click.exceptions.Exit(3)


@app.command()
def three() -> None:
    raise typer.BadParameter("not so")


@app.command()
def four() -> None:
    raise typer.Exit(3)


@app.command()
def five() -> None:
    print(click.get_current_context(silent=True))


app()
PY
seen=""
for each in one two three four; do
    code=0
    HOME=$folder "$folder/venv/bin/python" "$folder/program.py" "$each" >/dev/null 2>&1 || code=$?
    seen="$seen$code "
done
seen="$seen$(HOME=$folder "$folder/venv/bin/python" "$folder/program.py" five)"
echo "click.UsageError, click Exit(3), typer.BadParameter, typer Exit(3), click's context: $seen"
[ "$seen" = "1 1 2 3 None" ]
