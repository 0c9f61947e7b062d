"""Pages of lists as these clients turn them: by the id of the last item, until `has_more` is false."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from msgspec import Meta

PAGE_MAX = 1000
PageSize = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
After = Annotated[str, Meta(max_length=64)] | None
Item = TypeVar("Item")


def page_of(found: Sequence[Item], limit: int, told: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
    """A page of at most `limit` items, of which one more was read."""
    data = [told(one) for one in found[:limit]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, "has_more": len(found) > limit, **ends}
