"""Paths that nobody can serve yet, refused with 501 and the reason."""

from collections.abc import Sequence

from litestar import Controller, get, post
from litestar.params import QueryParams

from aitbc.kernel.primitives.errors import NotDone


def not_done(
    reason: str, *, read: str, write: str = "", gets: Sequence[str] = (), posts: Sequence[str] = ()
) -> type[Controller]:
    """A controller that refuses all its paths with `NotDone` and the reason, whatever query or body comes.

    `read` and `write` are the permissions that `gets` and `posts` ask for. Nothing is done, so nothing is done twice.
    """

    class NotDoneController(Controller):
        """What cannot be done yet."""

        if gets:

            @get(list(gets), opt={"permission": read})
            async def refuse_get(self, query: QueryParams) -> None:
                """Refuse to show it."""
                raise NotDone(reason)

        if posts:

            @post(list(posts), opt={"permission": write, "idempotency": "natural"})
            async def refuse_post(self, query: QueryParams) -> None:
                """Refuse to do it."""
                raise NotDone(reason)

    return NotDoneController
