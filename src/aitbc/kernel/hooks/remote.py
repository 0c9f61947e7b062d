"""Remote plugins: an HTTPS endpoint that is asked in JSON, both sides of which sign what they say.

The request is signed with the node's key, the answer with that of the plugin's publisher; each signature covers the id
of the request, so that neither can be used again. Where nothing right comes back in time, the plugin rests as any
other.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from aitbc.kernel.crypto.signing import Key, verify
from aitbc.kernel.hooks.hooks import Inner
from aitbc.kernel.hooks.manifest import Manifest
from aitbc.kernel.hooks.points import TEXT_BYTES_MAX, Hook, PluginFailed
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import new_id

ANSWER_BYTES_MAX = 64 * 1024
SIGNATURE = "aitbc-signature"


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Their names in lower case."""
    body: bytes


class Post(Protocol):
    """Sends something to a place outside of the installation, under its egress policy."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, most: int) -> Reply:
        """The answer to a POST, of at most so many bytes. Raises an exception that says why there is none."""


class _Answered(Struct, frozen=True):
    answer: dict[str, Any] | None


def signed(id_: str, body: bytes) -> bytes:
    """What the signatures of a request and of its answer cover."""
    return f"{id_}.".encode() + body


class Remote:
    """A plugin at an endpoint."""

    wraps: frozenset[str] = frozenset()

    def __init__(self, manifest: Manifest, public_key: str, key: Key, post: Post, *, priority: int = 100) -> None:
        assert manifest.endpoint is not None
        self.name = manifest.name
        self.version = manifest.version
        self.priority = priority
        self.hooks = frozenset(manifest.hooks)
        self._url = manifest.endpoint
        self._public_key = public_key
        self._key = key
        self._post = post

    async def ask(self, hook: Hook[Any, Any], question: Any, inner: Inner | None) -> Any:
        """Its answer, or none. Raises `PluginFailed`, `TimeoutError`, and what the egress raises."""
        id_ = new_id("ask")
        asked = {
            "id": id_,
            "at": int(now().timestamp()),
            "plugin": self.name,
            "version": self.version,
            "hook": hook.key,
            "question": question,
        }
        body = msgspec.json.encode(asked)
        headers = {
            "content-type": "application/json",
            "aitbc-id": id_,
            "aitbc-node": self._key.public,
            SIGNATURE: self._key.sign(signed(id_, body)),
        }
        async with asyncio.timeout(hook.seconds):
            reply = await self._post.post(self._url, body, headers, seconds=hook.seconds, most=ANSWER_BYTES_MAX)
        if reply.status != 200:
            raise PluginFailed(f"it answered with the status {reply.status}")
        if not verify(self._public_key, signed(id_, reply.body), reply.headers.get(SIGNATURE, "")):
            raise PluginFailed("its answer is not signed with its publisher's key")
        return _read(hook, reply.body)

    def close(self) -> None:
        """It holds nothing."""


def _read(hook: Hook[Any, Any], body: bytes) -> Any:
    try:
        answered = msgspec.json.decode(body, type=_Answered).answer
        answer = None if answered is None else msgspec.convert(answered, hook.answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PluginFailed(f"its answer cannot be read: {error}") from None
    if answer is not None and any(
        isinstance(value, str) and len(value) > TEXT_BYTES_MAX for value in msgspec.structs.astuple(answer)
    ):
        raise PluginFailed(f"its answer has a text of more than {TEXT_BYTES_MAX} characters")
    return answer
