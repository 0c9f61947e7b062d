"""The inputs of jobs, out of flags and files."""

import json
from pathlib import Path
from typing import Any

from aitbc_cli.command import Call
from aitbc_cli.exits import usage
from aitbc_cli.results import ARTIFACTS

INPUT_BYTES_MAX = 1 << 20
INLINE_IMAGE_BYTES_MAX = 48 * 1024


def value_of(file: str | None, flag: str, flags: dict[str, Any] | None) -> dict[str, Any]:
    """The input: out of flags, or whole out of a file."""
    from aitbc_cli import files

    if (file is None) == (flags is None):
        raise usage(f"give the input by {flag}, or whole by --input", hint="one of the two")
    if flags is not None:
        return flags
    assert file is not None
    try:
        value = json.loads(files.read(file, bytes_max=INPUT_BYTES_MAX))
    except (ValueError, RecursionError) as error:
        raise usage(f"{file} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise usage(f"{file} must hold a JSON object")
    return value


def variable(text: str) -> tuple[str, str]:
    """Name and value of `NAME=VALUE`. Raises a usage error."""
    name, found, value = text.partition("=")
    if not found:
        raise usage(f"--env {text!r} is not NAME=VALUE")
    return name, value


def uploaded(call: Call, path: Path) -> dict[str, str]:
    """A file, uploaded, as inputs refer to it."""
    from aitbc_cli import files

    with files.opened(path) as file:
        return {"artifact": call.api.upload(ARTIFACTS, file, path.stat().st_size)["id"]}


def with_(value: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """The input with these parts too, as far as they are given."""
    return {**value, **{name: wanted for name, wanted in parts.items() if wanted is not None}}


def lines() -> list[str]:
    """The lines of the standard input that are not blank. Raises a usage error."""
    from aitbc_cli import files

    text = text_of(files.read(files.STANDARD, bytes_max=INPUT_BYTES_MAX), "standard input")
    return files.lines_of(text)


def text_of(content: bytes, name: str) -> str:
    """The text of what came from a file of this name. Raises a usage error."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise usage(f"{name} is not UTF-8 text") from None


def image_of(call: Call, path: Path) -> Any:
    """A small picture as it is, a larger one uploaded first; in a dry run too, since only the server can measure it."""
    import base64

    from aitbc_cli import files

    with files.opened(path) as file:
        size = path.stat().st_size
        if size <= INLINE_IMAGE_BYTES_MAX:
            return base64.b64encode(file.read()).decode()
        return {"artifact": call.api.upload(ARTIFACTS, file, size)["id"]}
