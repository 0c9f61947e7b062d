"""Which kinds of work a miner shall do: the flags of its commands, its file, and what they make together."""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.exits import bad_configuration, usage
from aitbc_cli.times import seconds_of

KINDS = ("embed", "rerank", "ocr", "chat", "command", "container")
ALWAYS = ("embed", "ocr")
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
Serve = Annotated[
    list[str] | None,
    typer.Option(
        "--serve",
        metavar="NAME=FILE.gguf",
        help="A model of your own: its engine starts when a chat asks for it; again for more.",
    ),
]
ServeCommand = Annotated[
    list[str] | None,
    typer.Option(
        "--serve-command",
        metavar="NAME=COMMAND",
        help="The same by any engine: 'big=vllm serve org/big --port {port}'; {slots} is --slots. Again for more.",
    ),
]
ServeIdle = Annotated[
    str | None,
    typer.Option("--serve-idle", metavar="TIME", help="How long an engine stays without work; 15m unless given."),
]
ServeMax = Annotated[
    int | None,
    typer.Option("--serve-max", min=1, max=64, help="How many engines at once: 1 where they share one GPU's memory."),
]
ServeSlots = Annotated[
    list[str] | None,
    typer.Option(
        "--serve-slots", metavar="NAME=N", help="How many chats that model answers at once; --slots unless given."
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="NAME=PROGRAM", help="A program that jobs may run, fixed arguments after it; again for more."
    ),
]
Image = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="NAME=REF@sha256:…",
        help="A container image that jobs may run, which is on this machine already; again for more.",
    ),
]
Images = Annotated[
    str | None, typer.Option("--images", metavar="any", help="any: every image that jobs name by its digest.")
]
ContainerNetwork = Annotated[
    bool, typer.Option("--container-network", help="Give a network to containers that ask for one.")
]
KindsFile = Annotated[
    Path | None,
    typer.Option("--kinds-file", metavar="FILE", help="TOML with a table of options for each kind; flags add to it."),
]


@dataclass(frozen=True)
class KindFlags:
    """What the flags of a command say about kinds of work."""

    kind: list[str] | None = None
    chat_url: str | None = None
    chat_model: list[str] | None = None
    chat_key_file: Path | None = None
    allow: list[str] | None = None
    serve: list[str] | None = None
    serve_command: list[str] | None = None
    serve_idle: str | None = None
    serve_max: int | None = None
    serve_slots: list[str] | None = None
    image: list[str] | None = None
    images: str | None = None
    container_network: bool = False
    kinds_file: Path | None = None


def kinds_of(flags: KindFlags) -> dict[str, dict[str, Any]]:
    """The options of each kind that this miner shall do. Raises `Stop` where they make no sense."""
    options: dict[str, dict[str, Any]] = _read_kinds(flags.kinds_file) if flags.kinds_file is not None else {}
    if chat := _chat(flags):
        options["chat"] = options.get("chat", {}) | chat
    for each in flags.allow or ():
        name, words = _program(each)
        options.setdefault("command", {}).setdefault("programs", {})[name] = words
    if container := _container(flags, options.get("container", {})):
        options["container"] = container
    chosen = flags.kind or [*dict.fromkeys((*ALWAYS, *options))]
    for kind in chosen:
        if kind not in KINDS and kind not in options:
            raise usage(f"{kind!r} is no kind of work", hint=f"one of {', '.join(KINDS)}")
    if "chat" in chosen:
        _require_models(options.get("chat", {}))
    if "command" in chosen and not options.get("command", {}).get("programs"):
        raise usage("command needs a program that jobs may run", hint="--allow 'wc=/usr/bin/wc --'")
    if "container" in chosen:
        _require_images(options.get("container", {}))
    return {kind: options.get(kind, {}) for kind in chosen}


def _chat(flags: KindFlags) -> dict[str, Any]:
    """The options of chat that the flags give."""
    served: dict[str, dict[str, Any]] = {
        name: {"file": file} for name, file in map(_named("--serve"), flags.serve or ())
    }
    served |= {name: {"command": line} for name, line in map(_named("--serve-command"), flags.serve_command or ())}
    for name, count in map(_named("--serve-slots"), flags.serve_slots or ()):
        if name not in served or not count.isascii() or not count.isdecimal():
            raise usage(f"--serve-slots {name}={count} says no number of a model that is served here")
        served[name] = served[name] | {"slots": int(count)}
    given = {
        "base_url": flags.chat_url,
        "models": flags.chat_model,
        "api_key_file": str(flags.chat_key_file.absolute()) if flags.chat_key_file else None,
        "serve": served,
        "idle_seconds": seconds_of(flags.serve_idle) if flags.serve_idle else None,
        "loaded_max": flags.serve_max,
    }
    return {name: value for name, value in given.items() if value}


def _container(flags: KindFlags, options: dict[str, Any]) -> dict[str, Any]:
    """The options of containers with what the flags add. Raises a usage error."""
    if flags.images not in (None, "any"):
        raise usage("--images is any, or left out", hint="--image NAME=REF@sha256:… allows one")
    images = dict(map(_named("--image"), flags.image or ()))
    given = {"images": options.get("images", {}) | images} if images else {}
    given |= {"any_image": True} if flags.images else {}
    return options | given | ({"network": True} if flags.container_network else {})


def _require_images(options: dict[str, Any]) -> None:
    """Raises a usage error where no image may be run."""
    from aitbc_cli.miner.containers.images import read_images
    from aitbc_cli.miner.executors.fields import FieldError

    try:
        read_images(options)
    except FieldError as error:
        raise usage(str(error), hint="--image python=docker.io/library/python@sha256:…, or --images any") from None


def _named(flag: str) -> Any:
    """What splits NAME=VALUE, or says which flag has it otherwise."""

    def split(text: str) -> tuple[str, str]:
        name, found, value = text.partition("=")
        if not found or not name.strip() or not value.strip():
            raise usage(f"{flag} {text!r} is not NAME=…")
        return name.strip(), value.strip()

    return split


def _require_models(chat: dict[str, Any]) -> None:
    """Raises a usage error where chat has no models to chat with, or none that can be served."""
    from aitbc_cli.miner.executors.fields import FieldError
    from aitbc_cli.miner.serving.declared import serving_of

    try:
        serving = serving_of(chat)
    except FieldError as error:
        raise usage(str(error)) from None
    if serving is None and "base_url" not in chat:
        hint = "--chat-url http://127.0.0.1:11434/v1, or --serve NAME=FILE.gguf"
        raise usage("chat needs a server to forward to, or a model to serve", hint=hint)


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
        if (kind not in KINDS and "-" not in kind) or not isinstance(options, dict):
            hint = f"tables are [{'], ['.join(KINDS)}], and those of packages, which have a dash"
            raise bad_configuration(f"{file}: {kind!r} is no kind of work", hint=hint)
    return content
