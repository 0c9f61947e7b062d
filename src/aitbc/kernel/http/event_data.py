"""JSON as data of server-sent events."""

import re

_LINE_ENDS = re.compile(rb"\xc2\x85|\xe2\x80[\xa8\xa9]")


def one_line(content: bytes) -> bytes:
    """JSON that stays one line for those too who end lines at U+0085, U+2028 and U+2029.

    The official A2A client does. JSON has these within strings alone, where each can be written as an escape.
    """
    if b"\xe2\x80" not in content and b"\xc2\x85" not in content:
        return content
    return _LINE_ENDS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), content)
