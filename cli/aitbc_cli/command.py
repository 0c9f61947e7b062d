"""What every command shares: common options, help with an example and exit codes, and the call that it works with."""

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from aitbc_cli import exits
from aitbc_cli.exits import MEANINGS, PipeClosed, usage
from aitbc_cli.output import FORMATS, Output, dump
from aitbc_cli.settings import Flags, Where, find
from aitbc_cli.terminal import confirm, say
from aitbc_cli.times import seconds_of

Handler = Callable[..., int | None]
LIMIT = 50
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """The common options, as given; those that a command does not have stay at their defaults."""

    output: str | None = None
    as_json: bool = False
    fields: str | None = None
    quiet: bool = False
    utc: bool = False
    url: str | None = None
    profile: str | None = None
    api_key_file: Path | None = None
    timeout: str | None = None
    curl: bool = False
    limit: int = LIMIT
    everything: bool = False
    idempotency_key: str | None = None
    dry_run: bool = False
    yes: bool = False
    no_input: bool = False
    debug: bool = False


_OUTPUT: Mapping[str, tuple[Any, Any]] = {
    "output": (
        Annotated[str | None, typer.Option("--output", "-o", metavar="FORM", help=f"One of {', '.join(FORMATS)}.")],
        None,
    ),
    "as_json": (Annotated[bool, typer.Option("--json", help="The same as -o json.")], False),
    "fields": (
        Annotated[str | None, typer.Option("--fields", metavar="A,B.C", help="Only these fields of the JSON.")],
        None,
    ),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="Only ids or names, one a line.")], False),
    "utc": (Annotated[bool, typer.Option("--utc", help="Times of tables in UTC instead of local.")], False),
}
_SERVER: Mapping[str, tuple[Any, Any]] = {
    "url": (Annotated[str | None, typer.Option("--url", metavar="URL", help="The server to ask; AITBC_URL.")], None),
    "profile": (
        Annotated[str | None, typer.Option("--profile", metavar="NAME", help="A profile of the user's file.")],
        None,
    ),
    "api_key_file": (
        Annotated[
            Path | None,
            typer.Option("--api-key-file", metavar="FILE", help="Where the API key is; AITBC_API_KEY[_FILE]."),
        ],
        None,
    ),
    "timeout": (
        Annotated[
            str | None,
            typer.Option("--timeout", metavar="TIME", help="How long it may take in all: 30s, 5m; then exit code 7."),
        ],
        None,
    ),
    "curl": (
        Annotated[bool, typer.Option("--curl", help="Print the request as a curl command instead of sending it.")],
        False,
    ),
}
_LIST: Mapping[str, tuple[Any, Any]] = {
    "limit": (Annotated[int, typer.Option("--limit", min=1, max=100_000, help="So many rows at most.")], LIMIT),
    "everything": (Annotated[bool, typer.Option("--all", help="Every row there is.")], False),
}
_CHANGE: Mapping[str, tuple[Any, Any]] = {
    "idempotency_key": (
        Annotated[
            str | None,
            typer.Option("--idempotency-key", metavar="KEY", help="A repeated command with this key happens once."),
        ],
        None,
    ),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")], False),
    "yes": (Annotated[bool, typer.Option("--yes", "-y", help="Confirm beforehand.")], False),
    "no_input": (Annotated[bool, typer.Option("--no-input", help="Never ask; AITBC_NO_INPUT.")], False),
}
_DEBUG: Mapping[str, tuple[Any, Any]] = {
    "debug": (Annotated[bool, typer.Option("--debug", help="Show the traceback of an error of the program.")], False),
}
COMMON = frozenset({**_OUTPUT, **_SERVER, **_LIST, **_CHANGE, **_DEBUG})


class Call:
    """One run of a command: the server to ask, where data goes, and how far it may go."""

    def __init__(self, options: Options, *, changes: bool = False) -> None:
        self.options = options
        self._shown = frozenset() if not options.curl else CHANGING if changes else CHANGING | {"GET"}
        self.seconds = _seconds(options)
        self.out = Output(_form(options), fields=options.fields, utc=options.utc)
        self.dry_run = options.dry_run

    @cached_property
    def where(self) -> Where:
        """The server, and the key for it."""
        given = self.options
        return find(Flags(url=given.url, key_file=given.api_key_file, profile=given.profile), os.environ)

    @cached_property
    def api(self) -> Any:
        """The server, ready to be asked within the time limit."""
        return self.api_for(self.seconds)

    def api_for(self, seconds: float | None) -> Any:
        """The server, under another time limit."""
        from aitbc_cli.client import Api

        return Api(self.where, seconds=seconds, shown=self._shown)

    @cached_property
    def once(self) -> str:
        """The Idempotency-Key of this command."""
        if self.options.idempotency_key is not None:
            return self.options.idempotency_key
        return f"cli-{os.urandom(16).hex()}"

    @property
    def limit(self) -> int | None:
        """How many rows are wanted; none for all."""
        return None if self.options.everything else self.options.limit

    def confirm(self, question: str) -> None:
        """Ask before what cannot be taken back. Raises `Stop` unless it is confirmed."""
        if not (self.dry_run or self.options.curl):
            confirm(question, yes=self.options.yes, may_prompt=not self.options.no_input)

    def list(self, path: str, shown: Sequence[Any], *, name: str = "id", **query: Any) -> None:
        """Print a paged list, and say on standard error when there is more of it."""
        self.out.rows(self.pages(path, **query), shown, name=name)

    def pages(self, path: str, **query: Any) -> Any:
        """The rows of a paged list up to the limit; says so when there are more."""
        limit = self.limit
        return _cut(self.api.pages(path, None if limit is None else limit + 1, **query), limit)

    def change(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        natural: bool = False,
        look: str | None = None,
    ) -> Any:
        """Command the server, and give its answer. A dry run prints the request and ends; `look` is read before it."""
        if self.dry_run:
            if look is not None:
                self.api.get(look)
            plan = {"dry_run": True, "method": method, "path": path, "body": body}
            self.out.value(plan, f"dry run: would send {method} {path}" + (f" {dump(body)}" if body else ""))
            raise typer.Exit(exits.DONE)
        if method == "DELETE":
            return self.api.delete(path)
        if method == "PUT":
            return self.api.put(path, body)
        return self.api.post(path, body, once=self.once, natural=natural)


def _cut(rows: Any, limit: int | None) -> Any:
    for count, row in enumerate(rows):
        if count == limit:
            say(f"there is more; --limit {limit * 2} shows more of it, --all everything")
            return
        yield row


def _form(options: Options) -> str:
    chosen = {form for form, wanted in (("json", options.as_json), ("name", options.quiet)) if wanted}
    if options.output is not None:
        chosen.add(options.output)
    if len(chosen) > 1:
        raise usage("choose one form of output", hint="one of --json, -q and -o FORM")
    form = chosen.pop() if chosen else os.environ.get("AITBC_OUTPUT") or "table"
    if form not in FORMATS:
        raise usage(f"{form!r} is no form of output", hint=f"one of {', '.join(FORMATS)}")
    return form


def _seconds(options: Options) -> float | None:
    text = options.timeout if options.timeout is not None else os.environ.get("AITBC_TIMEOUT") or None
    seconds = None if text is None else seconds_of(text)
    if seconds == 0:
        raise usage("a timeout of nothing leaves no time for an answer")
    return seconds


# Declaring a command -------------------------------------------------------------------------------------------------


def noun(name: str, text: str, *, alone: bool = False, group: type[TyperGroup] | None = None) -> typer.Typer:
    """The commands of one noun; `alone` for a noun that is itself a command, `group` for one that finds more."""
    app = typer.Typer(
        name=name,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        cls=group or Group,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    if not alone:
        app.callback()(_nothing)  # a noun with one verb is still a noun
    return app


def _nothing() -> None:
    """A noun does nothing by itself."""


def command(
    app: typer.Typer,
    name: str | None,
    *,
    examples: Sequence[str],
    server: bool = True,
    output: bool = True,
    lists: bool = False,
    changes: bool = False,
    ends: Sequence[int] = (),
    hidden: bool = False,
) -> Callable[[Handler], Handler]:
    """Declare a command: its function gets a `Call` and its own options, and may return an exit code.

    `ends` are the exit codes it has besides those that follow from what it does.
    """
    common = {**(_LIST if lists else {}), **(_CHANGE if changes else {}), **(_OUTPUT if output else {})}
    common |= {**(_SERVER if server else {}), **_DEBUG}

    def declare(function: Handler) -> Handler:
        def run(**given: Any) -> int | None:
            options = Options(**{option: given.pop(option) for option in common})
            try:
                ended = function(Call(options, changes=changes), **given)
                sys.stdout.flush()
            except BrokenPipeError:
                raise PipeClosed from None
            return ended

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        added = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for option, (annotation, default) in common.items()
        ]
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *added]
        )
        run.__name__, run.__doc__, run.__annotations__ = function.__name__, function.__doc__, {}
        codes = _ends(server=server, changes=changes, more=ends)
        epilog = _epilog(examples, codes)
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
        app.command(name, cls=Manual, epilog=epilog, hidden=hidden, context_settings=settings)(run)
        return function

    return declare


def _ends(*, server: bool, changes: bool, more: Sequence[int]) -> list[int]:
    found = {exits.DONE, exits.FAILED, exits.USAGE, exits.CONFIGURATION, exits.INTERRUPTED, *more}
    if server:
        found |= {exits.NOT_ALLOWED, exits.UNAVAILABLE, exits.TIMED_OUT}
    if changes and server:
        found |= {exits.REFUSED}
    return sorted(found)


def _epilog(examples: Sequence[str], ended: Sequence[int]) -> str:
    lines = ["Examples:", *(f"  {example}" for example in examples), "", "Exit codes:"]
    return "\n".join([*lines, *(f"  {code:>3}  {MEANINGS[code]}" for code in ended)])


class Manual(TyperCommand):
    """A command whose help shows its own options first, and its example as it is typed."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, the command's own options, and those that many commands share."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Common options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            is_common = parameter.name in COMMON or parameter.name == "help"
            title = "Common options" if is_common else "Options"
            sections["Arguments" if parameter.param_type_name == "argument" else title].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The lines as they are."""
        if self.epilog:
            formatter.write("\n" + self.epilog + "\n")


class Group(TyperGroup):
    """The commands of a noun, in the order in which they are declared."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(self.commands)
