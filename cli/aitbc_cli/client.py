"""The HTTP client, with the standard library alone.

Safe retries with backoff, timeouts, an exit code for every failure.
"""

import http.client
import json
import os
import random
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn, Self
from urllib.parse import quote, urlencode, urlsplit

from typer import Exit

from aitbc_cli.exits import DONE, TIMED_OUT, UNAVAILABLE, Stop, bad_configuration, exit_of
from aitbc_cli.problems import own_problem
from aitbc_cli.settings import LOOPBACK, Where, signed_in
from aitbc_cli.terminal import progress, safe

ANSWER_SECONDS = 30.0
"""The timeout of one answer, unless the command says otherwise."""
ATTEMPTS_MAX = 4
PAUSE_SECONDS = 0.25
RETRY_AFTER_SECONDS_MAX = 5.0
ANSWER_BYTES_MAX = 256 << 20
PIECE_BYTES = 1 << 16
PAGE_ROWS = 200
JSON = "application/json"
FOREIGN = "not_aitbc"


class Api:
    """One caller of one server. `seconds` is how long everything together may take; none sets no limit.

    `shown` makes it print the first request of one of these methods as a curl command, and end, instead of sending it.
    """

    def __init__(self, where: Where, *, seconds: float | None = None, shown: frozenset[str] = frozenset()) -> None:
        self.where = where
        self._shown = shown
        self.request_id = f"cli-{os.urandom(10).hex()}"
        self._end = None if seconds is None else time.monotonic() + seconds
        self._seconds = seconds
        self._allowed = ANSWER_SECONDS

    def get(self, path: str, *, public: bool = False, seconds: float | None = None, **query: Any) -> Any:
        """The object at a path; `seconds` is how long the server may take on purpose. Raises `Stop`."""
        return self._json("GET", _with(path, query), public=public, slack=seconds or 0.0)

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, once: str | None = None, natural: bool = False
    ) -> Any:
        """The answer to a command, retried under its Idempotency-Key, or where repeating is harmless by nature."""
        return self._json("POST", path, body=body, once=once, natural=natural)

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to what anybody may send, which is harmless to repeat; it needs no key."""
        return self._json("POST", path, body=body, natural=True, public=True)

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to a setting, which is harmless to repeat."""
        return self._json("PUT", path, body=body, natural=True)

    def delete(self, path: str) -> Any:
        """The answer to a removal, which is harmless to repeat."""
        return self._json("DELETE", path, natural=True)

    def pages(self, path: str, limit: int | None, **query: Any) -> Iterator[dict[str, Any]]:
        """Rows of a paged list from the first on, `limit` at most; none goes on to the end."""
        left, cursor = limit, None
        while left is None or left > 0:
            size = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
            page = self.get(path, **query, limit=size, cursor=cursor)
            yield from self._objects(page["data"])
            left = None if left is None else left - len(page["data"])
            cursor = page["next_cursor"]
            if not page["has_more"] or cursor is None:
                return

    def upload(self, path: str, file: BinaryIO, size: int) -> Any:
        """Send a file as a raw body: it is kept under its content's digest, so that repeating it is harmless."""

        def body() -> Iterator[bytes]:
            file.seek(0)
            sent = 0
            with progress("uploading") as shown:
                while piece := file.read(PIECE_BYTES):
                    self._seconds_left(0.0)
                    sent += len(piece)
                    shown.update(f"uploading, {sent * 100 // max(size, 1)} %")
                    yield piece

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        return self._json("POST", path, raw=body, headers=headers, natural=True)

    def send_form(self, path: str, fields: Mapping[str, str], name: str, content: bytes) -> Any:
        """Send a form with a file. Sent again it keeps the same content under another id, which harms nobody."""
        boundary = os.urandom(16).hex()
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
            for field, value in fields.items()
        )
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quote(name)}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(len(body))}
        return self._json("POST", path, raw=lambda: iter([body]), headers=headers, natural=True)

    def stream(self, path: str, headers: Mapping[str, str] | None = None, *, seconds: float = ANSWER_SECONDS) -> "Flow":
        """An answer to read piece by piece; `seconds` is how long it may be silent. Raises `Stop`."""
        slack = seconds - ANSWER_SECONDS
        connection, answer = self._once("GET", path, dict(headers or {}), None, public=False, slack=slack)
        flow = Flow(self, connection, answer, slack)
        if answer.status != 200:
            with flow:
                raise self._problem(answer, flow.whole())
        return flow

    def look(self, path: str, *, public: bool = False, **query: Any) -> "Answer":
        """An answer as it is, asked for once, whatever it says. Raises `Stop` when there is none."""
        connection, answer = self._once("GET", _with(path, query), {}, None, public=public, slack=0.0)
        with Flow(self, connection, answer) as flow:
            return Answer(answer.status, dict(answer.getheaders()), flow.whole())

    # One request, and its retries

    def _json(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        raw: Any = None,
        headers: Mapping[str, str] | None = None,
        once: str | None = None,
        natural: bool = False,
        public: bool = False,
        slack: float = 0.0,
        shape: type[Any] = dict,
    ) -> Any:
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = JSON
        if once is not None:
            sent["Idempotency-Key"] = once
        content = None if body is None else json.dumps(body).encode()
        may_repeat = method == "GET" or natural or once is not None
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                with progress("waiting for the server"):
                    connection, answer = self._once(
                        method, path, sent, raw() if raw else content, public=public, slack=slack
                    )
                    with Flow(self, connection, answer, slack) as flow:
                        received = flow.whole()
                if 200 <= answer.status < 300:
                    return self._decoded(received, shape)
                problem = self._problem(answer, received)
            except Stop as stop:
                problem = stop
            may_go_on = may_repeat and attempt < ATTEMPTS_MAX and _is_passing(problem, attempt)
            if not may_go_on or not self._pause(problem, attempt):
                raise _with_key(problem, method, once)
        raise AssertionError

    def _pause(self, problem: Stop, attempt: int) -> bool:
        """Wait before the next attempt; false when there is no time for it."""
        asked = problem.details.get("retry_after") or 0.0
        seconds = max(min(asked, RETRY_AFTER_SECONDS_MAX), PAUSE_SECONDS * 2 ** (attempt - 1) * (0.5 + random.random()))
        if self._end is not None and time.monotonic() + seconds >= self._end:
            return False
        with progress(f"{problem.message}; trying again"):
            time.sleep(seconds)
        return True

    def _once(
        self, method: str, path: str, headers: dict[str, str], content: Any, *, public: bool, slack: float
    ) -> tuple["_Connection", http.client.HTTPResponse]:
        if method in self._shown:
            self._show(method, path, headers, content)
        headers = {"Accept": JSON, "User-Agent": "aitbc-cli", "X-Request-ID": self.request_id, **headers}
        if self.where.key is not None:
            headers["Authorization"] = f"Bearer {self.where.key}"
        elif not public:
            signed_in(self.where)
        connection = _Connection(self.where.url, self._seconds_left(slack))
        try:
            return connection, connection.ask(method, path, content, headers)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from None

    def _show(self, method: str, path: str, headers: Mapping[str, str], content: Any) -> NoReturn:
        from aitbc_cli.curl import curl

        print(safe(curl(method, self.where.url.rstrip("/") + path, headers, content)))
        raise Exit(DONE)

    def _seconds_left(self, slack: float) -> float:
        self._allowed = ANSWER_SECONDS + slack
        if self._end is None:
            return self._allowed
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._too_late()
        return min(self._allowed, left)

    # What goes wrong

    def _decoded(self, content: bytes, shape: type[Any]) -> Any:
        def known(found: dict[str, Any]) -> _Object:
            return _Object(found, self)

        try:
            value = json.loads(content, object_hook=known)
        except (ValueError, RecursionError):
            raise self._foreign("its answer is not JSON") from None
        if not isinstance(value, shape):
            raise self._foreign("its answer has another shape")
        return value

    def _objects(self, rows: Any) -> list[dict[str, Any]]:
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._foreign("its list has another shape")
        return rows

    def _foreign(self, why: str) -> Stop:
        hint = "check the URL: it is where `aitbc serve` says that it listens"
        return Stop(f"{self.where.url} does not seem to be an AITBC server: {why}", code=FOREIGN, hint=hint)

    def _problem(self, answer: http.client.HTTPResponse, content: bytes) -> Stop:
        """The problem document of an answer, as what the command ends with."""
        status = answer.status
        if 300 <= status < 400:
            return self._foreign(f"it redirects to {answer.getheader('Location')}")
        problem = own_problem(status, content) or {}
        if not problem and status < 500 and status not in (408, 429):  # ours says why
            return self._foreign(f"it answers with HTTP {status} and no explanation of ours")
        code = problem.get("code", "no_problem_document")
        message = problem.get("detail", f"{self.where.url} answered with HTTP {status} and no explanation")
        details: dict[str, Any] = {"status": status, "request_id": problem.get("request_id", self.request_id)}
        for name in ("errors", "details", "docs"):
            if problem.get(name):
                details[name] = problem[name]
        with suppress(ValueError, TypeError):
            details["retry_after"] = float(answer.getheader("Retry-After") or "")
        return Stop(message, exit_code=exit_of(code, status), code=code, hint=_hint(code, self.where), **details)

    def _too_late(self) -> Stop:
        return Stop(
            f"no answer within {self._seconds:g} s", exit_code=TIMED_OUT, code="timed_out", hint="see --timeout"
        )

    def _unreachable(self, error: Exception) -> Stop:
        """What a failed connection means to the one who waits."""
        url = self.where.url
        if isinstance(error, TimeoutError):
            if self._end is not None and time.monotonic() >= self._end - 0.01:
                return self._too_late()
            message = f"{url} did not answer in {self._allowed:g} s"
            return Stop(message, exit_code=TIMED_OUT, code="timed_out", hint="see --timeout, and `aitbc doctor`")
        code, hint = "unreachable", "`aitbc doctor` says more"
        if isinstance(error, ConnectionRefusedError):
            message = f"nothing listens at {url} ({self.where.url_origin})"
            hint = "start a server with `aitbc serve`, or name another with --url or AITBC_URL"
            code = "refused_connection"
        elif isinstance(error, socket.gaierror):
            message, hint = f"the name in {url} leads nowhere: {error.strerror}", "check the URL"
        elif isinstance(error, ssl.SSLError):
            message = f"no trusted connection to {url}: {getattr(error, 'reason', None) or error}"
            hint, code = "check the certificate; a private authority is named by SSL_CERT_FILE", "tls_failed"
        elif isinstance(error, http.client.IncompleteRead):
            message, code = f"the answer of {url} ended too early", "connection_broken"
        else:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            message, code = f"the connection to {url} broke: {said}", "connection_broken"
        return Stop(message, exit_code=UNAVAILABLE, code=code, hint=hint)


@dataclass(frozen=True)
class Answer:
    """What a server said to one look."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Its content; none where it is not JSON."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None

    @property
    def detail(self) -> str:
        """Why it is a refusal, in the words of its problem document, or its status."""
        body = self.json()
        said = body.get("detail") if isinstance(body, dict) else None
        return str(said) if said else f"HTTP {self.status}"


class _Object(dict[str, Any]):
    """An object of an answer: a field that is needed and not there says that this is no such server."""

    def __init__(self, found: dict[str, Any], api: Api) -> None:
        super().__init__(found)
        self._api = api

    def __missing__(self, name: str) -> Any:
        raise self._api._foreign(f"its answer lacks {name!r}")  # noqa: SLF001 - the same room


class Flow:
    """An answer that comes piece by piece; `slack` is by how much it may be silent for longer than usual."""

    def __init__(
        self, api: Api, connection: "_Connection", answer: http.client.HTTPResponse, slack: float = 0.0
    ) -> None:
        self._api = api
        self._connection = connection
        self._answer = answer
        self._slack = slack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def pieces(self) -> Iterator[bytes]:
        """The bytes as they come. Raises `Stop` when they end too early, or when the time of the command is up."""
        api = self._api
        while True:
            self._connection.wait_at_most(api._seconds_left(self._slack))  # noqa: SLF001 - the same room
            try:
                piece = self._answer.read1(PIECE_BYTES)
                if not piece and self._answer.length:
                    raise http.client.IncompleteRead(b"", self._answer.length)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise api._unreachable(error) from None  # noqa: SLF001
            if not piece:
                return
            yield piece

    def whole(self) -> bytes:
        """All of it. Raises `Stop`, also for more than anybody should answer."""
        found, total = [], 0
        for piece in self.pieces():
            total += len(piece)
            if total > ANSWER_BYTES_MAX:
                raise Stop(f"the answer is longer than {ANSWER_BYTES_MAX >> 20} MiB", code="answer_too_long")
            found.append(piece)
        return b"".join(found)

    def lines(self) -> Iterator[str]:
        """Lines of text, without their ends; a last one without an end is not a line."""
        rest = b""
        for piece in self.pieces():
            *complete, rest = (rest + piece).split(b"\n")
            for line in complete:
                yield line.decode("utf-8", "replace")


class _Connection:
    """One connection for one request, through a proxy where the environment names one."""

    def __init__(self, url: str, seconds: float) -> None:
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        self.prefix = parts.path.rstrip("/")
        self._socket: socket.socket | None = None
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        proxy = _proxy_of(parts.scheme, host)
        try:
            port = parts.port
        except ValueError:
            raise Stop(f"{url} names no valid port", exit_code=2, code="usage") from None
        if proxy is None:
            self._connection = kind(host, port, timeout=seconds)
        else:
            self._connection = kind(*proxy, timeout=seconds)
            if secure:
                self._connection.set_tunnel(host, port)
            else:
                self.prefix = url

    def close(self) -> None:
        """Give the socket back."""
        self._connection.close()

    def wait_at_most(self, seconds: float) -> None:
        """How long the next bytes may take."""
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def ask(self, method: str, path: str, content: Any, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Send a request and read the head of its answer, also where that comes before the request was read whole."""
        try:
            self._connection.request(method, self.prefix + path, content, dict(headers))
            self._socket = self._connection.sock  # an answer that ends its connection takes the socket from it
        except (BrokenPipeError, ConnectionResetError):
            with suppress(Exception):
                return self._connection.getresponse()
            raise
        return self._connection.getresponse()


def _proxy_of(scheme: str, host: str) -> tuple[str, int] | None:
    """Host and port of the proxy that the environment names for a host. Raises `Stop` where it is no URL."""
    named = any(
        os.environ.get(name) for base in ("http_proxy", "https_proxy", "all_proxy") for name in (base, base.upper())
    )
    if not named or host in LOOPBACK:
        return None
    from urllib.request import getproxies, proxy_bypass

    found = getproxies()
    kind = scheme if found.get(scheme) else "all"
    proxy = found.get(kind)
    if not proxy or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.hostname:
            return parts.hostname, parts.port or 8080
    except ValueError:  # its words may hold a piece of the password
        pass
    raise bad_configuration(
        f"{kind.upper()}_PROXY holds no URL of a proxy",
        hint="write for instance http://proxy.example.org:3128; in a password write @ as %40, / as %2F, [ as %5B",
    )


def _with(path: str, query: Mapping[str, Any]) -> str:
    given = {name: _query_text(value) for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _query_text(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def part(text: str) -> str:
    """A piece of a path out of anything; empty and dots are no id of anything."""
    return quote(text, safe="") if text.strip(".") else "-"


def _is_passing(problem: Stop, attempt: int) -> bool:
    """Whether the same request may succeed a little later.

    A foreign answer may be a proxy's, while the server restarts.
    """
    if problem.code in ("idempotency_key_in_flight", FOREIGN):
        return True
    if problem.code == "refused_connection":
        return attempt > 1  # a server that was there a moment ago comes back; one that never was does not
    return problem.exit_code == UNAVAILABLE and problem.code != "tls_failed"


def _with_key(problem: Stop, method: str, once: str | None) -> Stop:
    """Say how to find out what became of a command whose answer was lost."""
    if method == "GET" or problem.exit_code not in (UNAVAILABLE, TIMED_OUT) or problem.code == "refused_connection":
        return problem
    if once is not None:
        problem.details["idempotency_key"] = once
        problem.hint = f"it is not known whether it was done; repeat it safely with --idempotency-key {once}"
    return problem


def _hint(code: str, where: Where) -> str | None:
    if code == "unauthenticated":
        return f"the key comes from {where.key_origin}; `aitbc key whoami` tells what a key is worth"
    if code in ("forbidden", "grant_too_wide"):
        return "`aitbc key whoami` shows what this key may do"
    if code in ("insufficient_funds", "payment_required"):
        return "see `aitbc account show`; play money comes from `aitbc faucet` or, by an admin, `aitbc deposit`"
    return None
