"""Lists as the paths under `/v1` page them: by the last id of the page before, and without a next page's address."""

from collections.abc import Iterator
from typing import Any

from aitbc_cli.command import Call

PAGE = 100


def v1_pages(call: Call, path: str, **query: Any) -> Iterator[dict[str, Any]]:
    """The rows of a list up to the limit of the call, the newest first."""
    left, after = call.limit, None
    while left is None or left > 0:
        page = call.api.get(path, limit=PAGE if left is None else min(left, PAGE), after=after, **query)
        yield from page["data"]
        left = None if left is None else left - len(page["data"])
        if not page["has_more"] or not page["data"]:
            return
        after = page["data"][-1]["id"]
