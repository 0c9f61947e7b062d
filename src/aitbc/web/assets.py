"""The files of the pages: style, scripts, icon, each under a name that changes with its content."""

import hashlib
from importlib.resources import files
from typing import Any

from litestar import Controller, Response, get
from litestar.params import FromPath

from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.errors import NotFound

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_STATIC = files("aitbc.web") / "static"
NAMES = ("app.css", "app.js", "live.js", "receipt.js", "download.js", "icon.svg")
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}


def _named(name: str, content: bytes) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}.{ending}"


_CONTENT = {name: (_STATIC / name).read_bytes() for name in NAMES}
ASSETS = {name: f"/assets/{_named(name, content)}" for name, content in _CONTENT.items()}
"""By file: where it is served."""
_SERVED = {path.rpartition("/")[2]: name for name, path in ASSETS.items()}


class AssetController(Controller):
    """The files, which never change under one name."""

    path = "/assets"
    include_in_schema = False

    @get("/{name:str}", opt={"permission": PUBLIC})
    async def asset(self, name: FromPath[str]) -> Response[Any]:
        """One file. Raises `NotFound` for a name that this version does not have."""
        if name not in _SERVED:
            raise NotFound
        file = _SERVED[name]
        return Response(_CONTENT[file], media_type=_TYPES[file.rpartition(".")[2]], headers=FOREVER)
