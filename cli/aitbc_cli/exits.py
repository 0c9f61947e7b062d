"""How a command ends: its exit code, and what is said when it did not do what it was asked."""

from typing import Any

DONE = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
NOT_ALLOWED = 4
REFUSED = 5
UNAVAILABLE = 6
TIMED_OUT = 7
PARTLY = 8
CONFIGURATION = 78
INTERRUPTED = 130
PIPE_CLOSED = 141

MEANINGS = {
    DONE: "done",
    FAILED: "failed",
    USAGE: "wrong usage",
    NOT_FOUND: "not found",
    NOT_ALLOWED: "not signed in or not allowed",
    REFUSED: "refused by the state of things, or by a balance",
    UNAVAILABLE: "the server cannot be reached or cannot answer now; try again",
    TIMED_OUT: "timed out",
    PARTLY: "partly done",
    CONFIGURATION: "bad configuration",
    INTERRUPTED: "interrupted",
    PIPE_CLOSED: "the reader of the output went away",
}
"""The exit codes of every command, as its help lists them."""

BY_STATUS = {
    400: USAGE,
    401: NOT_ALLOWED,
    402: REFUSED,
    403: NOT_ALLOWED,
    404: NOT_FOUND,
    405: USAGE,
    408: UNAVAILABLE,
    409: REFUSED,
    413: USAGE,
    414: USAGE,
    415: USAGE,
    421: USAGE,
    422: USAGE,
    426: FAILED,
    429: UNAVAILABLE,
    431: USAGE,
    500: FAILED,
    501: FAILED,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}
"""What a problem's HTTP status ends a command with; 502 and 504 come from proxies before the server."""

BY_CODE = {
    "bad_configuration": CONFIGURATION,
    "plain_http_refused": CONFIGURATION,
    "port_taken": CONFIGURATION,
    "schema_error": CONFIGURATION,
}
"""Problems that end a command otherwise than their status says: they are met on this machine and never cross HTTP."""


def exit_of(code: str, status: int) -> int:
    """The exit code for a problem; one with an unknown status counts by its hundreds."""
    if code in BY_CODE:
        return BY_CODE[code]
    if status in BY_STATUS:
        return BY_STATUS[status]
    return USAGE if 400 <= status < 500 else FAILED


class Stop(Exception):
    """The command ends without having done what it was asked; `hint` is what to do about it."""

    def __init__(
        self,
        message: str,
        *,
        exit_code: int = FAILED,
        code: str = "failed",
        hint: str | None = None,
        **details: Any,
    ) -> None:
        self.message = message
        self.exit_code = exit_code
        self.code = code
        self.hint = hint
        self.details = details
        super().__init__(message)

    def as_json(self) -> dict[str, Any]:
        """What a program reads instead of the sentence."""
        fields = {"code": self.code, "message": self.message, "exit_code": self.exit_code, "hint": self.hint}
        return {"error": {**fields, **self.details}}


class PipeClosed(Exception):
    """Whoever read the output went away."""


def usage(message: str, *, hint: str | None = None, **details: Any) -> Stop:
    """The command line makes no sense as it stands."""
    return Stop(message, exit_code=USAGE, code="usage", hint=hint, **details)


def bad_configuration(message: str, *, hint: str | None = None) -> Stop:
    """The configuration of this machine cannot be used."""
    return Stop(message, exit_code=CONFIGURATION, code="bad_configuration", hint=hint)
