"""Structured logging: JSON lines, or coloured text on a terminal; secrets are masked, and no value can forge a line."""

import atexit
import logging
import os
import re
import sys
import traceback
from collections import deque
from collections.abc import Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Literal

import msgspec
import structlog
from msgspec import Struct, field

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.kernel.telemetry.log_writer import LogWriter

principal_key: ContextVar[str | None] = ContextVar("principal_key", default=None)
"""The id of the API key of this request."""
module_name: ContextVar[str | None] = ContextVar("module_name", default=None)
"""The module that logs, in code that serves several modules."""

LINE_BYTES_MAX = 64 * 1024
RECENT_MAX = 500
"""How many of the newest lines are kept in memory, and beside them as many of the newest warnings and errors."""
FIELD_LENGTH_MAX = 1000
"""The fields of a line that is too long are truncated to this many characters."""
NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_COLORS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Characters that JSON allows and a terminal or editor may obey: C1 controls, line separators, bidi controls."""
Level = Literal["debug", "info", "warning", "error"]


EVERY_LOGGER = "*"
"""The name of all modules and libraries that have no level of their own."""


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged, and in which form."""

    level: Level = "info"
    """From which level on things are written."""
    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: for people on a terminal, JSON lines elsewhere."""
    levels: dict[str, Level] = field(default_factory=dict)
    """Levels of single modules or libraries: `{gpu = "debug", sqlalchemy = "info"}`."""


class Levels:
    """The log level of each logger; may be changed while the process runs."""

    def __init__(self, level: str = "info", levels: Mapping[str, str] | None = None) -> None:
        self._default = NUMBERS[level]
        self._levels = {name: NUMBERS[value] for name, value in (levels or {}).items()}
        self._cache: dict[str, int] = {}

    def set(self, name: str, level: str) -> None:
        """Change the level of one module or library, whose children follow; `*` is all that have none of their own."""
        self._cache.clear()
        if name == EVERY_LOGGER:
            self._default = NUMBERS[level]
            return
        self._levels[name] = NUMBERS[level]
        logging.getLogger(name).setLevel(NUMBERS[level])

    def shown(self) -> Mapping[str, str]:
        """The levels by name, with `*` for all that have none of their own."""
        names = {number: name for name, number in NUMBERS.items()}
        return {EVERY_LOGGER: names[self._default], **{name: names[one] for name, one in self._levels.items()}}

    def threshold(self, logger: str) -> int:
        """The lowest level number that this logger writes. Libraries write from `warning` on, unless configured."""
        found = self._cache.get(logger)
        if found is None:
            found = self._cache[logger] = self._search(logger)
        return found

    def _search(self, logger: str) -> int:
        parts = logger.split(".")
        for length in range(len(parts), 0, -1):
            for start in range(min(length, 3)):
                own = self._levels.get(".".join(parts[start:length]))
                if own is not None and (start == 0 or parts[0] == "aitbc"):
                    return own
        return self._default if parts[0] == "aitbc" else max(self._default, NUMBERS["warning"])


class Log:
    """The state that all loggers share; `configure` changes it in place, so that existing loggers follow."""

    def __init__(self) -> None:
        self.levels = Levels()
        self.writer: LogWriter | None = None
        self.console = False
        self.color = False
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT_MAX)
        self._severe: deque[Mapping[str, Any]] = deque(maxlen=RECENT_MAX)

    def recent(self, level: str, limit: int) -> list[dict[str, Any]]:
        """The newest lines of this level and above, newest first, masked as they were written."""
        kept = self._severe if NUMBERS[level] >= NUMBERS["warning"] else self._recent
        lines = [line for line in reversed(kept) if NUMBERS[line["level"]] >= NUMBERS[level]][:limit]
        if self.writer is None:
            return []
        return [msgspec.json.decode(self.writer.masked(render_json(line))) for line in lines]

    def emit(self, level: str, logger: str, fields: MutableMapping[str, Any]) -> None:
        """Write one event, if its logger writes this level."""
        if NUMBERS[level] < self.levels.threshold(logger) or self.writer is None:
            return
        line: dict[str, Any] = {
            "timestamp": now(),
            "level": level,
            "event": fields.pop("event", None),
            "logger": logger,
        }
        if (request := current_request_id()) is not None:
            line["request_id"] = request
        if (key := principal_key.get()) is not None:
            line["key"] = key
        if (module := module_name.get()) is not None:
            line["module"] = module
        if error := fields.pop("exc_info", None):
            line["exception"] = _traceback(error)
        line.update((name, value) for name, value in fields.items() if name not in ("timestamp", "level", "logger"))
        self._recent.append(line)
        if NUMBERS[level] >= NUMBERS["warning"]:
            self._severe.append(line)
        self.writer.write(render_console(line, color=self.color) if self.console else render_json(line))


current = Log()


def configure(
    settings: LogSettings, *, descriptor: int = 1, secrets: Sequence[str] = (), no_color: bool = False
) -> Levels:
    """Configure logging for this process; `secrets` are masked in every line. Returns the levels."""
    terminal = os.isatty(descriptor)
    if current.writer is not None:
        current.writer.close()
    current.writer = LogWriter(descriptor, secrets=secrets)
    current.levels = Levels(settings.level, settings.levels)
    current.console = settings.format == "console" or (settings.format == "auto" and terminal)
    current.color = terminal and not no_color
    structlog.configure(
        processors=[_to_current],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=_NamedLogger,
        cache_logger_on_first_use=True,
    )
    # The root stays at warning: a library that finds `info` enabled formats every line, written or not.
    logging.basicConfig(handlers=[_LibraryHandler()], level=logging.WARNING, force=True)
    for name, level in settings.levels.items():
        logging.getLogger(name).setLevel(NUMBERS[level])
    logging.captureWarnings(capture=True)
    atexit.unregister(flush)
    atexit.register(flush)
    return current.levels


def flush() -> None:
    """Write the queued lines; called at exit."""
    if current.writer is not None:
        current.writer.flush()


class _NamedLogger:
    """The logger that structlog wraps: only a name."""

    def __init__(self, name: str = "aitbc") -> None:
        self.name = name


def _to_current(logger: _NamedLogger, method: str, fields: MutableMapping[str, Any]) -> str:
    current.emit("error" if method == "exception" else method, logger.name, fields)
    raise structlog.DropEvent


class _LibraryHandler(logging.Handler):
    """A `logging` handler that writes the records of libraries to the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one event, the library's text as its `message`."""
        level = "debug" if record.levelno < 20 else record.levelname.lower()
        fields = {"event": "library_log", "message": record.getMessage(), "exc_info": record.exc_info}
        current.emit(level if level in NUMBERS else "info", record.name, fields)


def _traceback(error: Any) -> str:
    """The traceback: type, message and lines of code; never the values of variables."""
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if not isinstance(error, BaseException):
        return ""
    return "".join(traceback.format_exception(error))[-LINE_BYTES_MAX // 4 :]


# Rendering -----------------------------------------------------------------------------------------------------------


def render_json(line: Mapping[str, Any]) -> bytes:
    """One JSON object and a newline; a field that cannot be encoded is described, and a line too long is truncated."""
    try:
        text = msgspec.json.encode(line, enc_hook=str)
    except Exception:  # noqa: BLE001 - a foreign value may do anything
        text = msgspec.json.encode(truncated(line))
    if len(text) > LINE_BYTES_MAX:
        text = msgspec.json.encode(truncated(line))
    return escape_unsafe(text) + b"\n"


def escape_unsafe(text: bytes) -> bytes:
    """JSON with the characters escaped that a terminal or an editor might obey."""
    if text.isascii() and b"\x7f" not in text:
        return text
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text.decode()).encode()


def truncated(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line with every field as text of bounded length: for a line that cannot be encoded, or is too long."""
    short: dict[str, Any] = {}
    for name, value in line.items():
        if isinstance(value, datetime | int | float | None):
            short[name] = value
        else:
            length = LINE_BYTES_MAX // 8 if name == "exception" else FIELD_LENGTH_MAX
            short[name] = _text(value)[-length if name == "exception" else 0 :][:length]
    return short | {"shortened": True}


def _text(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:  # noqa: BLE001 - a foreign __repr__ may do anything
        text = f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


def render_console(line: Mapping[str, Any], *, color: bool) -> bytes:
    """One line for a terminal: time, level, event and fields; an exception below, indented."""
    fields = dict(line)
    time, level, event = fields.pop("timestamp"), fields.pop("level"), fields.pop("event")
    exception = fields.pop("exception", "")
    fields.pop("logger", None)
    color_on, bold, dim, off = (_COLORS[level], "\x1b[1m", "\x1b[2m", "\x1b[0m") if color else ("", "", "", "")
    parts = [f"{dim}{time:%H:%M:%S}.{time.microsecond // 1000:03d}{off} {color_on}{level:<7}{off}"]
    parts.append(f"{bold}{_visible(_text(event))}{off}")
    parts += [f"{dim}{_visible(_text(name))}={off}{_word(value)}" for name, value in fields.items()]
    text = " ".join(parts)[:LINE_BYTES_MAX]
    for row in exception.splitlines():
        text += "\n    " + _visible(row)
    return (text + "\n").encode("utf-8", "backslashreplace")


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else _text(str(value))
    text = _visible(text)
    return f'"{text}"' if not text or " " in text else text


def _visible(text: str) -> str:
    """The text with unprintable characters escaped: control characters, ANSI sequences, separators."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
