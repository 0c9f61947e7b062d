"""`aitbc`: the entry of the command line, where every way to end becomes an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError, UsageError

from aitbc_cli import exits
from aitbc_cli.exits import PipeClosed, Stop
from aitbc_cli.tree import Nouns

COMPLETE_VARIABLE = "_AITBC_COMPLETE"
EPILOG = (
    "Examples: `aitbc demo` shows everything once; `aitbc job submit embed --text hello --max-price 0.05 --wait` buys work; "
    "`aitbc NOUN VERB --help` explains a command, with an example and its exit codes."
)
app = typer.Typer(
    name="aitbc",
    help="A marketplace for AI work: jobs are sold, done, verified, receipted and paid for.",
    epilog=EPILOG,
    cls=Nouns,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"aitbc {version('aitbc')}")
        raise typer.Exit


def _version_asked(value: bool) -> None:  # noqa: FBT001 - the callback's form
    _print_version(wanted=value)


@app.callback()
def root(
    version: bool = typer.Option(  # noqa: FBT001 - the form of a callback
        False, "--version", help="Print the version.", is_eager=True, callback=_version_asked
    ),
) -> None:
    """Nothing but the options of the root."""


def tree() -> Any:
    """The whole tree of commands."""
    if COMPLETE_VARIABLE in os.environ:  # a shell asks what could come next
        from typer._completion_classes import completion_init

        completion_init()
    command = typer.main.get_command(app)
    command.help = app.info.help
    return command


def run(arguments: Sequence[str]) -> int:
    """Run one command line, and give its exit code."""
    try:
        outcome = tree().main(args=list(arguments), prog_name="aitbc", standalone_mode=False)
        sys.stdout.flush()
        return int(outcome or 0)
    except Stop as stop:
        return _say(stop, arguments)
    except NoArgsIsHelpError as asked:
        asked.show()
        return exits.USAGE
    except UsageError as error:
        misuse = Stop(error.format_message(), exit_code=exits.USAGE, code="usage", hint=_help_of(error))
        return _say(misuse, arguments)
    except ClickException as error:
        return _say(Stop(error.format_message(), code="failed"), arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _say(Stop("interrupted", exit_code=exits.INTERRUPTED, code="interrupted"), arguments)
    except (PipeClosed, BrokenPipeError):
        return _end_of_pipe()
    except Exception as error:  # noqa: BLE001 - whatever is wrong inside is told in one line, the rest on demand
        return _unexpected(error, arguments)


def main() -> NoReturn:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 gets question marks, not an error
            stream.reconfigure(errors="replace")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _end_of_pipe()
    sys.exit(code)


def _say(stop: Stop, arguments: Sequence[str]) -> int:
    """What went wrong: a sentence for people, and for programs JSON where they asked for it."""
    from aitbc_cli.output import dump
    from aitbc_cli.terminal import safe

    words = [f"aitbc: {stop.message}"]
    faults = stop.details.get("errors", ())
    words += [f"  {one['pointer']}: {one['message']}" for one in faults if one["message"] not in stop.message]
    if stop.hint:
        words.append(f"  {stop.hint}")
    if stop.details.get("request_id") and stop.details.get("status", 0) >= 500:
        words.append(f"  request id: {stop.details['request_id']}")
    form = _form(arguments)
    try:
        if form in ("json", "jsonl") and stop.exit_code != exits.INTERRUPTED:
            print(dump(stop.as_json(), indent=2 if form == "json" else None), flush=True)
        print(safe("\n".join(words), lines=True), file=sys.stderr)
    except BrokenPipeError:
        return _end_of_pipe()
    return stop.exit_code


def _unexpected(error: Exception, arguments: Sequence[str]) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    if isinstance(error, ModuleNotFoundError) and (stop := _server_missing()) is not None:
        return _say(stop, arguments)
    if hasattr(error, "exit_code") and hasattr(
        error, "message"
    ):  # an error of the platform itself, met on this machine
        return _say(Stop(error.message, exit_code=error.exit_code, code=getattr(error, "code", "failed")), arguments)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return _say(Stop(f"{place}{error.strerror or error}", code="system"), arguments)
    hint = "this is an error of the program; the same command with --debug shows where"
    return _say(Stop(f"{type(error).__name__}: {error}", code="internal_error", hint=hint), arguments)


def _server_missing() -> Stop | None:
    """What to install where a command loaded the server and the server is not here; none where it is."""
    from aitbc_cli.packages import SERVER, missing, server_missing

    lacking = missing(SERVER)
    return server_missing(lacking) if lacking else None


def _help_of(error: UsageError) -> str | None:
    return f"see: {error.ctx.command_path} --help" if error.ctx is not None else None


def _form(arguments: Sequence[str]) -> str:
    """The form of output that was asked for, as far as can be told from words that may make no sense."""
    for place, word in enumerate(arguments):
        if word == "--":
            break
        if word == "--json":
            return "json"
        for flag in ("--output=", "-o"):
            if word.startswith(flag) and word != flag:
                return word.removeprefix(flag)
        if word in ("-o", "--output") and place + 1 < len(arguments):
            return arguments[place + 1]
    return os.environ.get("AITBC_OUTPUT", "")


def _end_of_pipe() -> int:
    """Nobody reads any more: end like any program in a pipe, without a word."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stdout.fileno())
    return exits.PIPE_CLOSED


if __name__ == "__main__":
    main()
