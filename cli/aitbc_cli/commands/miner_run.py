"""A miner on this machine: its options, and how it enrols."""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command
from aitbc_cli.exits import CONFIGURATION, NOT_ALLOWED, REFUSED, Stop, bad_configuration, usage
from aitbc_cli.miner.options import NOT_ENROLLED
from aitbc_cli.output import columns
from aitbc_cli.settings import checked_key, is_same_server, read_private
from aitbc_cli.times import seconds_of

KINDS = ("embed", "ocr", "chat", "command")
ALWAYS = ("embed", "ocr")
SLOTS_MAX = 64
NAME_LENGTH_MAX = 100
"""As the server has it."""
Name = Annotated[str | None, typer.Option("--name", help="What people call it; this machine's name unless given.")]
Slots = Annotated[int, typer.Option("--slots", min=1, max=SLOTS_MAX, help="How many jobs at once.")]
StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="DIR", help="Its own folder: key, credentials, undelivered results."),
]
Region = Annotated[str | None, typer.Option("--region", help="Where it stands, for jobs that ask for it.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Where the one-time token is; AITBC_ENROLMENT_TOKEN."),
]
Kind = Annotated[
    list[str] | None,
    typer.Option("--kind", help=f"{', '.join(KINDS)}; again for more. Unless given: all that is set up."),
]
ChatUrl = Annotated[
    str | None, typer.Option("--chat-url", metavar="URL", help="An OpenAI-compatible server to chat with, to its /v1.")
]
ChatModel = Annotated[
    list[str] | None,
    typer.Option(
        "--chat-model",
        metavar="MODEL",
        help="Only this model of that server; NAME=MODEL announces it as NAME; again for more. Else all it lists.",
    ),
]
ChatKeyFile = Annotated[
    Path | None, typer.Option("--chat-key-file", metavar="FILE", help="Where the key for that server is.")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="NAME=PROGRAM", help="A program that jobs may run, fixed arguments after it; again for more."
    ),
]
KindsFile = Annotated[
    Path | None,
    typer.Option("--kinds-file", metavar="FILE", help="TOML with a table of options for each kind; flags add to it."),
]


def declare_running(app: typer.Typer) -> None:
    """Add `run` and `enrol` to the commands of the noun."""
    command(
        app,
        "run",
        examples=[
            "aitbc miner run",
            "aitbc miner run --name attic --slots 4 --chat-url http://127.0.0.1:11434/v1",
            "aitbc miner run --kind command --allow 'wc=/usr/bin/wc --'",
            "aitbc miner run --schedule 22:00-07:00 --only-when-idle",
        ],
        output=False,
        ends=[NOT_ALLOWED, REFUSED, CONFIGURATION],
    )(run)
    command(
        app,
        "enrol",
        examples=["AITBC_ENROLMENT_TOKEN=aitbc_enrol_… aitbc miner enrol --name attic"],
        ends=[NOT_ALLOWED, REFUSED, CONFIGURATION],
    )(enrol)


def run(
    call: Call,
    name: Name = None,
    slots: Slots = 1,
    state_dir: StateDir = None,
    region: Region = None,
    kind: Kind = None,
    chat_url: ChatUrl = None,
    chat_model: ChatModel = None,
    chat_key_file: ChatKeyFile = None,
    allow: Allow = None,
    kinds_file: KindsFile = None,
    token_file: TokenFile = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="How long running work may go on after the first Ctrl-C.")
    ] = "30s",
    schedule: Annotated[
        str | None,
        typer.Option("--schedule", metavar="HOURS", help="Work only then, by this machine's clock: 22:00-07:00."),
    ] = None,
    only_when_idle: Annotated[
        bool, typer.Option("--only-when-idle", help="Take work only while nobody else uses the machine.")
    ] = False,
    json_events: Annotated[
        bool, typer.Option("--json-events", help="What happens as JSON lines on standard output.")
    ] = False,
) -> int:
    """Do paid work on this machine until a signal. It only opens connections, and listens nowhere.

    The first start enrols it: with a one-time token, or, where an API key is at hand that may make one, by itself.
    The first Ctrl-C or SIGTERM lets running work end, the second gives it back at once.
    """
    kinds = kinds_of(kind, chat_url, chat_model, chat_key_file, allow, kinds_file)
    options = options_of(
        *(call, name, state_dir, token_file),
        slots=slots,
        region=region,
        kinds=kinds,
        grace_seconds=seconds_of(grace),
        schedule=_schedule(schedule),
        only_when_idle=only_when_idle,
        json_events=json_events,
    )
    from aitbc_cli.miner import daemon

    return int(_guarded(daemon.run, options))


def enrol(
    call: Call,
    name: Name = None,
    slots: Slots = 1,
    state_dir: StateDir = None,
    region: Region = None,
    kind: Kind = None,
    token_file: TokenFile = None,
) -> None:
    """Enrol this machine without working yet: it makes its key, and keeps the credentials in its folder."""
    kinds = kinds_of(kind, None, None, None, None, None)
    options = options_of(call, name, state_dir, token_file, slots=slots, region=region, kinds=kinds)
    from aitbc_cli.miner import daemon

    enrolled = _guarded(daemon.enrol, options)
    call.out.one(enrolled, columns("miner", "account", "fingerprint", "url"), name="miner")


def _guarded(work: Any, options: Any) -> Any:
    from aitbc_cli.miner.options import MinerFailed

    try:
        return work(options)
    except MinerFailed as failed:
        raise Stop(str(failed), exit_code=failed.exit_code, code="miner_failed") from None


def options_of(
    call: Call,
    name: str | None,
    state_dir: Path | None,
    token_file: Path | None,
    *,
    slots: int,
    region: str | None,
    kinds: dict[str, dict[str, Any]],
    **how: Any,
) -> Any:
    """The options of the miner of this name, with a token where it is not enrolled. Raises `Stop`."""
    from aitbc_cli.miner.options import Options

    name, home = home_of(call, name, state_dir)
    return Options(
        url=call.where.url,
        home=home,
        name=name,
        slots=slots,
        kinds=kinds,
        token=_token(call, home, token_file),
        region=region,
        **how,
    )


def home_of(call: Call, name: str | None, state_dir: Path | None) -> tuple[str, Path]:
    """The name of a miner, this machine's unless it is given, and its folder. Raises a usage error."""
    import socket

    name = socket.gethostname().partition(".")[0] or "miner" if name is None else _checked_name(name)
    return name, state_dir or call.where.state_dir / "miners" / _folder_of(name)


def _schedule(hours: str | None) -> str | None:
    """The hours as they were given. Raises a usage error for what is no time of day."""
    from aitbc_cli.miner.hours import Hours

    try:
        Hours(hours)
    except ValueError as error:
        raise usage(f"--schedule: {error}") from None
    return hours


def _checked_name(name: str) -> str:
    """A name as the server takes it. Raises a usage error that says what is wrong with it."""
    fault = None
    if not name.strip():
        fault = "it is blank"
    elif len(name) > NAME_LENGTH_MAX:
        fault = f"it has {len(name)} characters, and {NAME_LENGTH_MAX} are the most"
    elif name != name.strip() or not name.isprintable():
        fault = "it has spaces at its ends or characters that cannot be seen"
    if fault is not None:
        raise usage(f"--name: {fault}", hint="leave it out for this machine's name, or say for instance --name attic")
    return name


def _folder_of(name: str) -> str:
    if name.startswith(".") or any(not letter.isalnum() and letter not in "-_. " for letter in name):
        raise usage(
            f"{name!r} cannot name a folder", hint="say --state-dir, or choose a name of letters, digits and dashes"
        )
    return name


def _token(call: Call, home: Path, file: Path | None) -> str | None:
    """The one-time token; none where the miner is enrolled already. A caller who may make tokens needs none.

    Raises `Stop` where there is none to be had: before anything is started that takes its time.
    """
    if _is_enrolled(home, call.where.url):
        return None
    if file is not None:
        return read_private(file, "--token-file")
    if os.environ.get("AITBC_ENROLMENT_TOKEN"):
        return checked_key(os.environ["AITBC_ENROLMENT_TOKEN"], "AITBC_ENROLMENT_TOKEN")
    if call.where.key is None:
        raise Stop(NOT_ENROLLED, exit_code=NOT_ALLOWED, code="miner_failed")
    return str(call.api.post("/api/v1/gpu/enrolment-tokens", {}, natural=True)["token"])


def _is_enrolled(home: Path, url: str) -> bool:
    try:
        return is_same_server(json.loads((home / "credentials.json").read_bytes())["url"], url)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


# Kinds ---------------------------------------------------------------------------------------------------------------


def kinds_of(
    wanted: list[str] | None,
    chat_url: str | None,
    chat_models: list[str] | None,
    chat_key_file: Path | None,
    allowed: list[str] | None,
    file: Path | None,
) -> dict[str, dict[str, Any]]:
    """The options of each kind that this miner shall do. Raises `Stop` where they make no sense."""
    options: dict[str, dict[str, Any]] = _read_kinds(file) if file is not None else {}
    if chat_url is not None:
        options.setdefault("chat", {})["base_url"] = chat_url
    if chat_models or chat_key_file:
        chat = options.setdefault("chat", {})
        chat |= {"models": chat_models} if chat_models else {}
        chat |= {"api_key_file": str(chat_key_file.absolute())} if chat_key_file else {}
    for each in allowed or ():
        name, words = _program(each)
        options.setdefault("command", {}).setdefault("programs", {})[name] = words
    chosen = wanted or [*dict.fromkeys((*ALWAYS, *options))]
    for kind in chosen:
        if kind not in KINDS:
            raise usage(f"{kind!r} is no kind of work", hint=f"one of {', '.join(KINDS)}")
    if "chat" in chosen and "base_url" not in options.get("chat", {}):
        raise usage("chat needs a server to forward to", hint="--chat-url http://127.0.0.1:11434/v1")
    if "command" in chosen and not options.get("command", {}).get("programs"):
        raise usage("command needs a program that jobs may run", hint="--allow 'wc=/usr/bin/wc --'")
    return {kind: options.get(kind, {}) for kind in chosen}


def _program(text: str) -> tuple[str, list[str]]:
    name, found, line = text.partition("=")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise usage(f"--allow {text!r}: {error}") from None
    if not found or not name or not words:
        raise usage(f"{text!r} allows nothing", hint="--allow 'wc=/usr/bin/wc --'")
    path = shutil.which(words[0])
    if path is None:
        raise usage(f"--allow {name}: {words[0]} is no program on this machine")
    return name, [str(Path(path).absolute()), *words[1:]]


def _read_kinds(file: Path) -> dict[str, dict[str, Any]]:
    import tomllib

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise bad_configuration(f"{file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise bad_configuration(f"{file} is not TOML: {error}", hint="correct the line") from None
    for kind, options in content.items():
        if kind not in KINDS or not isinstance(options, dict):
            raise bad_configuration(f"{file}: {kind!r} is no kind of work", hint=f"tables are [{'], ['.join(KINDS)}]")
    return content
