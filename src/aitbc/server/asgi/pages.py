"""What the server knows of the pages that people look at: the app hands them in, and only the main process has them."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from litestar import Router
from litestar.types import ASGIApp

from aitbc.kernel.identity.sessions import Sessions


class Pages(Protocol):
    """The pages, as the server mounts them."""

    router: Router
    """Their routes."""

    def connect(self, api: ASGIApp) -> None:
        """Give them the application below the boundary, to call the API in the name of who looks."""
        ...

    def around(self, app: ASGIApp) -> ASGIApp:
        """A layer above the boundary, which shows browsers a page in place of a problem document."""
        ...


MakePages = Callable[[Sessions, asyncio.Event], Pages]
"""Makes the pages of one server; the event is set when it is stopping."""
