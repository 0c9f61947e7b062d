"""What the owner of a miner has declared to be served: for each model the file of its weights, or a command."""

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aitbc_cli.miner.executors.fields import FieldError, read_integer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/@+()-]{0,99}\Z")
"""A model's name as it can be announced."""
PORT, SLOTS = "{port}", "{slots}"
MODELS_MAX = 64
SERVING_OPTIONS = frozenset({"serve", "idle_seconds", "load_seconds", "loaded_max"})
"""The options of chat that are read here."""
IDLE_SECONDS = 900.0
LOAD_SECONDS = 600.0
CONTEXT_TOKENS = 4096
"""What a chat may have with an engine for a GGUF file."""
SLOTS_MAX = 64
_HOW = frozenset({"file", "command", "slots"})


@dataclass(frozen=True)
class ServedModel:
    """One model, and how its engine is started."""

    name: str
    """As it is announced."""
    command: tuple[str, ...]
    """The engine and its arguments; `{port}` is its loopback port, `{slots}` how many chats come at once."""
    weights: Path | None = None
    """The file that it loads, where that is known: its size says how much memory to make room for the first time."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is known of it, to be announced."""
    slots: int | None = None
    """How many chats it answers at once; none for as many as the miner has slots."""

    def words(self, *, port: int, slots: int) -> list[str]:
        """The command for one start."""
        return [word.replace(PORT, str(port)).replace(SLOTS, str(slots)) for word in self.command]

    @property
    def bytes_expected(self) -> int:
        """How much memory its weights will take; 0 where nothing is known."""
        try:
            return self.weights.stat().st_size if self.weights is not None else 0
        except OSError:
            return 0


@dataclass(frozen=True)
class Serving:
    """All that a miner serves, and for how long an engine may take to load and stay without work."""

    models: Mapping[str, ServedModel]
    idle_seconds: float = IDLE_SECONDS
    load_seconds: float = LOAD_SECONDS
    loaded_max: int = MODELS_MAX
    """How many engines may run at once: where they share a GPU, its memory is the owner's to know."""


def serving_of(options: Mapping[str, Any]) -> Serving | None:
    """What the options of chat say; none where nothing is served. Raises `FieldError` with what is wrong.

    `serve` is `{name: {"file": …} | {"command": …}}`, perhaps with `slots`; beside it `idle_seconds`,
    `load_seconds` and `loaded_max`.
    """
    declared = options.get("serve")
    if not declared:
        return None
    if not isinstance(declared, Mapping) or len(declared) > MODELS_MAX:
        raise FieldError(f"serve: up to {MODELS_MAX} models, each a table with `file` or `command`.")
    models = {name: _model(name, how) for name, how in declared.items()}
    return Serving(
        models,
        _seconds(options, "idle_seconds", IDLE_SECONDS),
        _seconds(options, "load_seconds", LOAD_SECONDS),
        read_integer(options.get("loaded_max", MODELS_MAX), "loaded_max", least=1, most=MODELS_MAX),
    )


def _model(name: str, how: Any) -> ServedModel:
    if not NAME.match(name):
        raise FieldError(
            f"serve: {name[:100]!r} cannot be announced as a model; up to 100 letters, digits, . _ : / @ + -"
        )
    if not isinstance(how, Mapping) or len({"file", "command"} & how.keys()) != 1 or how.keys() - _HOW:
        raise FieldError(f"serve: {name} needs either `file`, a GGUF file, or `command`, which starts an engine.")
    model = _of_file(name, how["file"]) if "file" in how else _of_command(name, how["command"])
    if "slots" not in how:
        return model
    return replace(model, slots=read_integer(how["slots"], f"serve: {name}: slots", least=1, most=SLOTS_MAX))


def _of_file(name: str, file: Any) -> ServedModel:
    path = Path(str(file)).expanduser().absolute()
    try:
        with path.open("rb") as weights:
            is_gguf = weights.read(4) == b"GGUF"
    except OSError as error:
        raise FieldError(f"serve: {name}: {path} cannot be read: {error.strerror}.") from None
    if not is_gguf:
        raise FieldError(f"serve: {name}: {path} is no GGUF file; for other weights state the command of their engine.")
    program = (sys.executable, "-P", "-m", "aitbc_cli.miner.serving.gguf_server")
    facts = {"context": CONTEXT_TOKENS, "modalities": ["text"]}
    return ServedModel(name, (*program, str(path), name, PORT, SLOTS), weights=path, facts=facts)


def _of_command(name: str, command: Any) -> ServedModel:
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    except (TypeError, ValueError) as error:
        raise FieldError(f"serve: {name}: {error}.") from None
    if not any(PORT in word for word in words[1:]):
        raise FieldError(f"serve: {name}: the command needs {PORT} where the port goes that it is to listen on.")
    return ServedModel(name, tuple(words))


def _seconds(options: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = options.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 30 * 86_400:
        raise FieldError(f"{name}: a number of seconds from 1 to {30 * 86_400}.")
    return float(value)
