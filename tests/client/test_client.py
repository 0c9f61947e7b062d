"""The Python client: it calls what the description has, in its types, and repeats what may pass."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from aitbc.client import AsyncClient, Client, calls, operations
from aitbc.client.calls import Call
from aitbc.client.events import NewsReader
from aitbc.kernel.primitives.errors import Invalid, NotFound, TooMany, Unavailable
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.trading.api import BudgetExceeded
from tests.architecture.source import ROOT
from tests.cli.tiny_server import Received, Reply, answering

pytestmark = pytest.mark.anyio
DESCRIBED = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
JOB = SubmitJob(kind="embed", input={"texts": ["a"]}, max_price="1")
CALLS: dict[str, Call[Any]] = {
    "submit_job": operations.submit_job(JOB),
    "quote_job": operations.quote_job(JOB),
    "get_job": operations.get_job("{job}"),
    "list_jobs": operations.list_jobs(None, 9, None),
    "cancel_job": operations.cancel_job("{job}"),
    "stop_job": operations.stop_job("{job}"),
    "explain_job": operations.explain_job("{job}"),
    "list_models": operations.list_models(None, 9, None),
    "list_miners": operations.list_miners(9, None),
    "get_receipt": operations.get_receipt("{receipt}"),
    "search_market": operations.search_market(None, None, 9, None),
    "whoami": operations.whoami(),
    "get_balance": operations.get_balance("{account}"),
    "list_budgets": operations.list_budgets(9, None),
    "make_budget": operations.make_budget("1", "day", None, None),
    "remove_budget": operations.remove_budget("{budget}"),
}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses but those that a server asks for."""
    monkeypatch.setattr(calls, "PAUSE_SECONDS", 0.0)


def test_every_call_is_in_the_description_and_answers_what_that_says() -> None:
    assert set(CALLS) == {name for name, made in vars(operations).items() if _is_call(made)} - {"follow_job"}
    for name, call in CALLS.items():
        path = call.path.replace("%7B", "{").replace("%7D", "}")
        described = DESCRIBED[path][call.method.lower()]
        assert described["operationId"] == name
        (success,) = [one for status, one in described["responses"].items() if status.startswith("2")]
        schema = success["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        answers = str(call.answers).replace("aitbc.kernel.primitives.pagination.Page[", "PageOf")
        assert name == "whoami" or schema.removeprefix("PageOf") in answers, name
        asked = {one["name"] for one in described.get("parameters", ()) if one["in"] == "query"}
        assert set(call.query) <= asked, name


def _is_call(made: Any) -> bool:
    return callable(made) and getattr(made, "__module__", "") == operations.__name__


def problem(status: int, code: str, **more: Any) -> Reply:
    headers = {"Retry-After": "0"} if status in (429, 503) else {}
    body = {"type": f"/docs/errors#{code}", "status": status, "code": code, "detail": "said so", **more}
    return Reply(status, json.dumps(body).encode(), headers)


def header(asked: Received, name: str) -> str | None:
    """A header of a request, however its name was spelled."""
    return {key.lower(): value for key, value in asked.headers.items()}.get(name)


def failing(times: int, reply: Reply, then: Any) -> tuple[list[Received], Callable[[Received], Reply]]:
    """A server that fails some times before it answers."""
    seen: list[Received] = []

    def answer(asked: Received) -> Reply:
        seen.append(asked)
        return reply if len(seen) <= times else Reply(200, json.dumps(then).encode())

    return seen, answer


QUOTE: dict[str, Any] = dict.fromkeys(("unit_price", "price", "price_max", "fee_max", "max_price"), "0.1")
QUOTE |= dict.fromkeys(("units", "units_max", "fee_basis_points", "position", "miners_eligible"), 1)
QUOTE |= {"kind": "embed", "unit": "token", "sufficient": True, "filters": []}


async def test_what_may_pass_is_repeated_under_one_key() -> None:
    for failure in (problem(503, "unavailable"), problem(429, "rate_limited")):
        seen, answer = failing(2, failure, QUOTE)
        with answering(answer) as server:
            assert Client(server.url, "k").quote("embed", {"texts": ["a"]}).price_max == "0.1"
        assert len(seen) == 3 and len({header(one, "idempotency-key") for one in seen} - {None}) == 1
        seen, answer = failing(2, failure, QUOTE)
        with answering(answer) as server:
            async with AsyncClient(server.url, "k") as client:
                assert (await client.quote("embed", {"texts": ["a"]})).price_max == "0.1"
        assert len(seen) == 3 and header(seen[0], "authorization") == "Bearer k"


@pytest.mark.parametrize(
    ("reply", "raised", "tries"),
    [
        (problem(402, "budget_exceeded", details={"remaining": "0.5"}), BudgetExceeded, 1),
        (problem(404, "something_new"), NotFound, 1),
        (problem(422, "invalid", errors=[{"pointer": "/x", "message": "no"}]), Invalid, 1),
        (problem(429, "too_many_requests"), TooMany, calls.ATTEMPTS_MAX),
        (Reply(502, b"<html>"), Unavailable, calls.ATTEMPTS_MAX),
        (Reply(200, b"[1]"), Unavailable, 1),
        (Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), Exception, 1),
    ],
)
async def test_errors_are_the_servers_classes_with_its_codes(reply: Reply, raised: type[Any], tries: int) -> None:
    seen, answer = failing(99, reply, None)
    with answering(answer) as server:
        with pytest.raises(raised) as told:
            Client(server.url).job("job_1")
        async with AsyncClient(server.url) as client:
            with pytest.raises(raised) as also:
                await client.job("job_1")
    assert len(seen) == 2 * tries and told.value.code == also.value.code
    if raised is BudgetExceeded:
        assert told.value.details["remaining"] == "0.5" and told.value.code == "budget_exceeded"
    if raised is NotFound:
        assert told.value.code == "something_new" and NotFound.code == "not_found"


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        Client("http://127.0.0.1:1").job("job_1")
    async with AsyncClient("http://127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await client.job("job_1")
    with pytest.raises(Invalid):
        Client("file:///etc/passwd")


def test_a_stream_that_breaks_goes_on_where_it_broke() -> None:
    pieces = [
        b'id: 1\nevent: state\ndata: {"state": "running"}\n\n',
        b'id: 2\nevent: state\ndata: {"state": "succeeded"}\n\n',
    ]
    seen: list[str | None] = []

    def answer(asked: Received) -> Reply:
        seen.append(header(asked, "last-event-id"))
        return Reply(200, pieces[len(seen) - 1], {"Content-Type": "text/event-stream"})

    with answering(answer) as server:
        assert [news.id for news in Client(server.url).follow("job_1")] == ["1", "2"]
    assert seen == [None, "1"]


def test_events_are_put_together_out_of_lines() -> None:
    reader = NewsReader()
    lines = [": a comment", "", "id: 7", "event: part", 'data: {"text":', 'data: "a"}', ""]
    found = [news for line in lines if (news := reader.feed(line)) is not None]
    assert [(news.id, news.event, news.data) for news in found] == [("7", "part", {"text": "a"})]
