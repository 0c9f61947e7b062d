"""The position in a list that is sorted by ids, from the cursor of a request."""

from collections.abc import Sequence

from aitbc.kernel.primitives.ids import is_id
from aitbc.kernel.primitives.pagination import InvalidCursor, Page


def after_id(name: str, cursor: str | None, prefix: str, *, bound_to: Sequence[str] = ()) -> str | None:
    """The id after which a page of this list begins; none for its beginning. Raises `InvalidCursor`."""
    after = Page.position(name, cursor, bound_to=bound_to)
    if after is not None and not is_id(prefix, after):
        raise InvalidCursor
    return after
