"""Chat completions, forwarded to any server that speaks the OpenAI protocol (Ollama, vLLM, xllamacpp)."""

import contextlib
import http.client
import json
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from aitbc_cli.miner.executors.chat_answer import is_reasoning, output_of
from aitbc_cli.miner.executors.chat_check import evaluate
from aitbc_cli.miner.executors.chat_models import ChatModels, NoModels, unavailable
from aitbc_cli.miner.executors.chat_reader import Body, ChatReader, pieces_of, remaining
from aitbc_cli.miner.executors.chat_stream import BrokenStream, StreamedAnswer
from aitbc_cli.miner.executors.chunked_body import MalformedBody
from aitbc_cli.miner.executors.fields import FieldError, clean_text, read_integer, read_object, read_text
from aitbc_cli.miner.executors.model_facts import facts_of
from aitbc_cli.miner.executors.work import Outcome, Progress, Report, Work, WorkFailed

ANSWER_BYTES = 4 * 1024 * 1024
CONNECT_SECONDS = 5.0

_OPTIONS = frozenset({"base_url", "api_key_file", "models", "answer_bytes", "memory_bytes", "threads"})
_FIELDS = frozenset(
    {"messages", "model", "max_tokens", "seed", "stop"}
    | {"temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "reasoning_effort"}
    | {"n", "tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs"}
)
_LISTED_MAX = 10_000
# What an upstream answers when the request itself is at fault; anything else is the miner's trouble.
_REQUESTER_STATUS = frozenset({400, 413, 422})
# What an upstream may answer that cannot stream, or not in these words: it is asked once more for a whole answer.
_STREAMLESS_STATUS = frozenset({400, 422, 501})
_STREAM = {"stream": True, "stream_options": {"include_usage": True}}
_LETTERS_A_REPORT = 50_000


class ChatExecutor:
    """Forwards messages to the configured server: one connection a job, no redirect, no proxy, bounded answers."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        read_object(options, allowed=_OPTIONS, what="configuration of chat")
        self._url = _read_url(options.get("base_url"))
        self._models = ChatModels(options.get("models") or [])
        self._is_listed = False
        """Whether this process has seen the server's list."""
        key_file = options.get("api_key_file")
        self._key_file = Path(read_text(key_file, "api_key_file", longest=4096)) if key_file else None
        self._answer_bytes = read_integer(
            options.get("answer_bytes", ANSWER_BYTES), "answer_bytes", least=1024, most=64 * 1024 * 1024
        )
        self._sockets: dict[int, socket.socket] = {}
        """By thread: the connection that its work waits for."""
        self._canceled: set[int] = set()
        self._reader = ChatReader()
        self._headers()

    def cancel(self, thread: int) -> None:
        """Give up the work of a thread: its connection ends, whatever it waits for."""
        self._canceled.add(thread)
        if (channel := self._sockets.get(thread)) is not None:
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)

    def forget(self, thread: int) -> None:
        """The work of a thread has ended."""
        self._canceled.discard(thread)

    def report_together(self, together: Callable[[], AbstractContextManager[None]]) -> None:
        """Report what came for several streams in one turn within such a context."""
        self._reader.together = together

    def warm_up(self) -> dict[str, Any]:
        """Ask the server for its models."""
        self._read_models()
        detail: dict[str, Any] = {"models": self._models.names, "missing": self._models.missing}
        return detail | ({"facts": self._models.facts} if self._models.facts else {})

    def _read_models(self) -> None:
        """Learn what the server lists; one that answers 404 has no such list and may still chat."""
        status, body, _ = self._exchange("GET", "/models", None, time.monotonic() + CONNECT_SECONDS)
        if status not in (200, 404):
            raise _unavailable(f"The chat server answered {status} when it was asked for its models.")
        entries = [] if status == 404 else _entries_in(body)
        listed = [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]
        self._models.learn(None if status == 404 else listed, facts_of(entries, self._ask_aside))
        self._is_listed = True

    def _ask_aside(self, path: str, body: Mapping[str, Any] | None, deadline: float | None = None) -> Mapping[str, Any]:
        """What the server says at a path of its own beside `/v1`, before a deadline; nothing where it does not."""
        root = self._url.path.removesuffix("/v1")
        deadline = time.monotonic() + CONNECT_SECONDS if deadline is None else deadline
        try:
            status, answer, _ = self._exchange(
                "GET" if body is None else "POST", root + path, body, deadline, whole=True
            )
            return _object_of(answer) if status == 200 else {}
        except WorkFailed:
            return {}

    def run(self, work: Work, report: Report) -> Outcome:
        """The message of the first choice, reported as it comes; usage is what the upstream says it counted."""
        if work.check is not None:
            return self._check(work, work.check)
        return self._chat(work, lambda text: _tell(report, text))

    def _check(self, work: Work, check: Mapping[str, Any]) -> Outcome:
        """Evaluate another miner's answer, and answer oneself where that one lies outside the tolerance."""
        deadline = time.monotonic() + work.run_seconds
        model = self._choose_model(work.input.get("model"))
        found = evaluate(lambda path, body: self._ask_aside(path, body, deadline), work.input.get("messages"), check)
        if found.apart > check["passes"]:
            outcome = self._chat(work, lambda _: None)
            return replace(outcome, output={**outcome.output, "evaluation": found.tokens} if outcome.output else None)
        message = {"role": "assistant", "content": check["text"]}
        return Outcome(output={"message": message, "model": model, "evaluation": found.tokens})

    def _chat(self, work: Work, tell: Callable[[str], None]) -> Outcome:
        started = time.monotonic()
        request = _request_of(work.input)
        model = self._choose_model(request.pop("model", None))
        if model is not None:
            request["model"] = self._models.upstream(model)
        likely = request.get("top_logprobs", 0)
        if request.get("logprobs"):  # for none at all, some servers leave out those of the answer itself
            request["top_logprobs"] = max(likely, 1)  # findings/xllamacpp-leaves-out-logprobs.sh
        answer = self._answer(request, model, started + work.run_seconds, tell)
        usage = {**_usage_of(answer), "milliseconds": round((time.monotonic() - started) * 1000)}
        return Outcome(output=output_of(answer, model, likely=likely), usage=usage)

    def _choose_model(self, wanted: str | None) -> str | None:
        """The announced name of the model to work with; the list is read again for one that is not known here."""
        if self._is_listed:
            with contextlib.suppress(WorkFailed):
                return self._models.choose(wanted)
        try:
            self._read_models()
        except NoModels:  # it has gone since the job was taken: what the list no longer has is nobody's fault
            raise unavailable(wanted) from None
        return self._models.choose(wanted)

    def _answer(
        self, request: dict[str, Any], model: str | None, deadline: float, tell: Callable[[str], None]
    ) -> dict[str, Any]:
        """The answer of the upstream: streamed where it can, whole where it cannot, and reported either way."""
        streamed = StreamedAnswer(
            tell, bytes_max=self._answer_bytes, require=partial(self._models.require_answer_of, model)
        )
        path = "/chat/completions"
        status, body, is_streamed = self._exchange("POST", path, request | _STREAM, deadline, streamed)
        if is_streamed:
            return streamed.whole
        if status in _STREAMLESS_STATUS:  # each time anew: the server may be another by now
            status, body, _ = self._exchange("POST", path, request | {"stream": False}, deadline)
        if status == 404 or (status in _REQUESTER_STATUS and _names_no_model(body)):
            if model is not None:
                self._models.withhold(model)
            raise unavailable(model)
        if status in _REQUESTER_STATUS:
            raise WorkFailed("requester", "invalid_input", f"The chat server refused the request: {_reason_of(body)}")
        if status != 200:
            raise _unavailable(f"The chat server answered {status}.")
        answer = _object_of(body)
        self._models.require_answer_of(model, answer.get("model"))
        tell(output_of(answer, None)["message"]["content"])
        return answer

    def _headers(self) -> dict[str, str]:
        accepted = "application/json, text/event-stream"
        headers = {"Content-Type": "application/json", "Accept": accepted, "Connection": "close"}
        if self._key_file:
            headers["Authorization"] = f"Bearer {_read_key(self._key_file)}"
        return headers

    def _exchange(
        self,
        method: str,
        path: str,
        request: Mapping[str, Any] | None,
        deadline: float,
        streamed: StreamedAnswer | None = None,
        *,
        whole: bool = False,
    ) -> tuple[int, bytes, bool]:
        """One request and its whole answer, before a deadline of the monotonic clock; whether it was streamed.

        The path is one below that of the configuration, or the `whole` one.
        """
        connection = _connection(self._url, min(CONNECT_SECONDS, max(0.1, deadline - time.monotonic())))
        body = None if request is None else json.dumps(request).encode()
        thread = threading.get_ident()
        try:
            connection.connect()
            channel = connection.sock
            self._sockets[thread] = channel
            if thread in self._canceled:
                raise WorkFailed("miner", "canceled", "The work was given up.")
            channel.settimeout(remaining(deadline))
            connection.request(method, path if whole else self._url.path + path, body=body, headers=self._headers())
            response = connection.getresponse()
            answer = Body(response)
            pieces = pieces_of(answer, channel, deadline)
            if streamed is not None and response.status == 200 and _is_stream(response):
                for piece in pieces:
                    streamed.feed(piece)
                    if streamed.has_begun:  # the first text is read as it comes, the rest with that of all others
                        break
                self._reader.read(channel, answer, streamed.feed, deadline)
                streamed.end()
                return response.status, b"", True
            return response.status, self._read_answer(pieces), False
        except MalformedBody as error:
            raise _unavailable(f"The chat server sent a body that cannot be read: {error}.") from None
        except BrokenStream as error:
            raise _unavailable(f"The chat server {error}.") from None
        except OverflowError:
            raise self._too_large() from None
        except TimeoutError:
            if time.monotonic() < deadline - 0.01:
                raise _unavailable("The chat server did not accept a connection in time.") from None
            raise WorkFailed("miner", "timed_out", "The chat server did not answer in time.") from None
        except (OSError, http.client.HTTPException) as error:
            raise _unavailable(f"The chat server cannot be reached ({type(error).__name__}).") from None
        finally:
            self._sockets.pop(thread, None)
            connection.close()

    def _read_answer(self, pieces: Iterator[bytes]) -> bytes:
        parts: list[bytes] = []
        size = 0
        for part in pieces:
            size += len(part)
            if size > self._answer_bytes:
                raise self._too_large()
            parts.append(part)
        return b"".join(parts)

    def _too_large(self) -> WorkFailed:
        message = f"The answer of the chat server is over the limit of {self._answer_bytes} bytes."
        return WorkFailed("miner", "output_too_large", message)


def _is_stream(response: http.client.HTTPResponse) -> bool:
    return response.getheader("Content-Type", "").partition(";")[0].strip().lower() == "text/event-stream"


def _tell(report: Report, text: str) -> None:
    for start in range(0, len(text), _LETTERS_A_REPORT):
        report(Progress(None, [], text[start : start + _LETTERS_A_REPORT]))


def _read_url(value: Any) -> SplitResult:
    text = read_text(value, "base_url", shortest=1, longest=2048)
    wanted = "base_url must look like http://127.0.0.1:11434/v1, without a user, query or fragment."
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        raise FieldError(wanted) from None
    if not usable or url.username or url.query or url.fragment:
        raise FieldError(wanted)
    path = url.path.rstrip("/")
    return url._replace(path=path if path.endswith("/v1") else path + "/v1")


def _connection(url: SplitResult, timeout_seconds: float) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, url.port, timeout=timeout_seconds, context=context)
    return http.client.HTTPConnection(host, url.port, timeout=timeout_seconds)


def _read_key(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise FieldError(f"api_key_file {path} cannot be read as text.") from None
    if stat.S_IMODE(mode) & 0o077:
        raise FieldError(f"api_key_file {path} can be read by others; run: chmod 600 {path}")
    if not key or any(not "!" <= letter <= "~" for letter in key):
        raise FieldError(f"api_key_file {path} must hold one line of ASCII with the key.")
    return key


def _request_of(value: Any) -> dict[str, Any]:
    """The request to forward. What its fields may hold was checked where the job was submitted."""
    if not isinstance(value, Mapping) or not value.get("messages"):
        raise FieldError("The input of chat must have messages.")
    unknown = sorted(str(name)[:40] for name in value if name not in _FIELDS)
    if unknown:  # a server that is newer than this miner knows more of chat
        raise WorkFailed("platform", "unsupported_input", f"This miner does not know the field {unknown[0]!r} of chat.")
    # An empty list of stop texts is none, which some servers refuse.
    return {name: item for name, item in value.items() if item is not None and item != []}


def _entries_in(body: bytes) -> list[Any]:
    listed = _object_of(body).get("data")
    return listed[:_LISTED_MAX] if isinstance(listed, list) else []


def _names_no_model(body: bytes) -> bool:
    """Whether a refusal says that there is no such model, as some servers do with another status than 404."""
    try:
        error = json.loads(body).get("error")
    except (ValueError, RecursionError, AttributeError):
        return False
    return isinstance(error, dict) and error.get("code") == "model_not_found"


def _object_of(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise _unavailable("The chat server answered with something that is not JSON.") from None
    if not isinstance(answer, dict):
        raise _unavailable("The chat server answered with something that is not an object.")
    return answer


def _usage_of(answer: dict[str, Any]) -> dict[str, int]:
    """The counts of the upstream under the names of this platform; what is no sensible number is left out.

    The tokens of the answer are those of its text. What the model thought beside it is taken off where the upstream
    says how much that was; where it does not say, there is no count of the answer alone.
    """
    said = answer.get("usage")
    if not isinstance(said, dict):
        return {}
    said = dict(said)
    details = said.get("completion_tokens_details")
    thought = details.get("reasoning_tokens") if isinstance(details, dict) else None
    if isinstance(thought, int) and isinstance(said.get("completion_tokens"), int):
        said["completion_tokens"] -= thought
    elif is_reasoning(answer):
        said.pop("completion_tokens", None)
    names = {"prompt_tokens": "prompt_tokens", "completion_tokens": "completion_tokens", "total_tokens": "tokens"}
    return {
        ours: said[theirs]
        for theirs, ours in names.items()
        if isinstance(said.get(theirs), int) and not isinstance(said[theirs], bool) and 0 <= said[theirs] < 2**31
    }


def _reason_of(body: bytes) -> str:
    """What the upstream says is wrong, short and on one line."""
    try:
        error = json.loads(body).get("error")
    except (ValueError, RecursionError, AttributeError):
        return "no reason given."
    text = error.get("message") if isinstance(error, dict) else error
    return " ".join(clean_text(text).split())[:300] if isinstance(text, str) and text.strip() else "no reason given."


def _unavailable(message: str) -> WorkFailed:
    return WorkFailed("miner", "upstream_unavailable", message)
