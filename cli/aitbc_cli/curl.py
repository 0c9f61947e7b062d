"""A request as the curl command that sends it: the key stays in the environment, everything else is written out."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

KEY = '-H "Authorization: Bearer $AITBC_API_KEY"'
_BARE = re.compile(r"[A-Za-z0-9_./:=-]+")


def curl(method: str, url: str, headers: Mapping[str, str], content: Any) -> str:
    """The command; `content` is the body as bytes, none, or anything else for a file that comes on standard input."""
    words = ["curl", "-sS"]
    if method != "GET":
        words += ["-X", method]
    words.append(_quoted(url))
    words.append(KEY)
    for name, value in headers.items():
        if name.lower() not in ("accept", "authorization", "content-length", "user-agent", "x-request-id"):
            words += ["-H", _quoted(f"{name}: {value}")]
    if isinstance(content, bytes):
        words += ["--data-binary", _quoted(content.decode())]
    elif content is not None:
        words += ["--data-binary", "@-"]
    return " ".join(words)


def _quoted(text: str) -> str:
    return text if _BARE.fullmatch(text) else shlex.quote(text)
