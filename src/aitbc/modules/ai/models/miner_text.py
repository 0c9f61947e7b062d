"""Text from miners, made safe to store and to show on a terminal or a page."""

import re
from collections.abc import Callable

MESSAGE_LENGTH_MAX = 2000
CUT = " … (cut)"
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, marks that turn the direction of writing, and half characters."""


def clean(text: str, longest: int, replace: Callable[[str], str] = lambda text: _UNSAFE.sub("\ufffd", text)) -> str:
    """The text without unsafe characters; what is too long is cut, and says so."""
    short = text if len(text) <= longest else text[: longest - len(CUT)] + CUT
    return replace(short)


def reason_word(text: str, otherwise: str) -> str:
    """A reason, if it is one short word of small letters; else another."""
    return text if _WORD.match(text) else otherwise
