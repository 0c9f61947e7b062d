"""The few HTTP calls that the demonstration makes, with nothing but the standard library."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 90.0


class Refused(Exception):
    """The server answered with a problem; the message is what it says."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", "unknown"))
        super().__init__(f"{problem.get('detail', 'no detail')} ({self.code}, HTTP {status})")


class Api:
    """One caller of one server."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._key = key

    def get(self, path: str) -> Any:
        """The JSON at a path. Raises `Refused`."""
        return json.loads(self._ask("GET", path, None, None))

    def post(self, path: str, body: dict[str, Any], *, once: str | None = None) -> Any:
        """The JSON answer to a command; `once` is its Idempotency-Key. Raises `Refused`."""
        return json.loads(self._ask("POST", path, body, once))

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed answer. Raises `Refused`."""
        with self._open("POST", path, body, None) as answer:
            for line in answer:
                data = line.removeprefix(b"data: ").strip()
                if line.startswith(b"data: ") and data != b"[DONE]":
                    yield json.loads(data)

    def save(self, path: str, file: Path) -> int:
        """Stream what is at a path into a file; answers its size. Raises `Refused`."""
        with self._open("GET", path, None, None) as answer, file.open("wb") as out:
            while chunk := answer.read(1 << 16):
                out.write(chunk)
        return file.stat().st_size

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, once: str | None) -> bytes:
        with self._open(method, path, body, once) as answer:
            content: bytes = answer.read()
            return content

    def _open(self, method: str, path: str, body: dict[str, Any] | None, once: str | None) -> Any:
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if once is not None:
            headers["Idempotency-Key"] = once
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a local server needs no proxy
        try:
            return opener.open(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            try:
                problem = json.loads(error.read())
            except ValueError:
                problem = {}
            raise Refused(error.code, problem) from None
