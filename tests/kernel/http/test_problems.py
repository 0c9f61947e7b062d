"""Strict request parsing and error responses, on the shop."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, get, post
from litestar.exceptions import HTTPException, ImproperlyConfiguredException

from aitbc.kernel.http.body import read_body
from aitbc.kernel.http.problems import FAULTS_MAX, as_app_error, problem, problem_headers, with_head
from aitbc.kernel.primitives import strict_json
from aitbc.kernel.primitives.errors import Conflict, FieldError, Forbidden, Invalid, Malformed, NotFound, Unavailable
from aitbc.kernel.primitives.ids import MalformedId, new_id
from aitbc.kernel.primitives.pagination import encode_cursor
from aitbc.kernel.primitives.text import readable_message
from aitbc.server.asgi.app_options import app_options, check_routes
from tests.kernel.shop import HOST, NewItem, Shelf, bounded

ITEMS = "/api/v1/shop/items"
ITEM: dict[str, Any] = {"name": "a lamp", "price": "0.05"}


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = st.sampled_from(["name", "price", "count", "size", "labels", "note", "sold_until", "fragile", "extra"])


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a shop with nothing on its shelf."""
    transport: Any = httpx.ASGITransport(app=bounded(Shelf()))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        yield client


def pointers(answer: httpx.Response) -> dict[str, str]:
    """What is wrong, by where."""
    return {fault["pointer"]: fault["message"] for fault in answer.json()["errors"]}


async def test_a_right_body_is_taken(client: httpx.AsyncClient) -> None:
    whole = ITEM | {"count": 3, "size": {"width": 5}, "labels": ["a"], "sold_until": "2030-01-31T12:00:00+01:00"}
    answer = await client.post(ITEMS, json=whole)
    assert (answer.status_code, answer.json()["count"]) == (201, 3)
    assert (await client.get(f"{ITEMS}/{answer.json()['id']}")).json() == answer.json()


async def test_every_fault_of_a_body_is_told_at_once_by_its_place(client: httpx.AsyncClient) -> None:
    wrong = {
        "name": " ",
        "count": "5",
        "size": {"width": 0, "depth": 1},
        "labels": ["a", 1],
        "fragile": 1,
        "owner": "me",
    }
    answer = await client.post(ITEMS, json=wrong)
    assert answer.status_code == 422
    found = pointers(answer)
    assert found.keys() >= {
        "/price",
        "/name",
        "/count",
        "/size/width",
        "/size/depth",
        "/labels/1",
        "/fragile",
        "/owner",
    }
    assert found["/price"] == "This field is required"
    assert found["/owner"] == "There is no such field"
    assert "regex" not in found["/name"]


async def test_the_list_of_faults_ends(client: httpx.AsyncClient) -> None:
    answer = await client.post(ITEMS, json=ITEM | {f"a{number}": 1 for number in range(FAULTS_MAX * 3)})
    assert len(answer.json()["errors"]) == FAULTS_MAX


@pytest.mark.parametrize("count", ["1.0", "1.5", "1e3", '"5"', "true", "null", "[1]"])
async def test_a_whole_number_is_nothing_else(client: httpx.AsyncClient, count: str) -> None:
    body = f'{{"name": "a", "price": "1", "count": {count}}}'
    answer = await client.post(ITEMS, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(pointers(answer))) == (422, ["/count"])


@pytest.mark.parametrize("at", ["2030-01-31T12:00:00", "yesterday", "2030-02-30T00:00:00Z", 5])
async def test_a_time_has_its_offset(client: httpx.AsyncClient, at: Any) -> None:
    answer = await client.post(ITEMS, json=ITEM | {"sold_until": at})
    assert (answer.status_code, list(pointers(answer))) == (422, ["/sold_until"])


async def test_names_are_kept_in_normal_form(client: httpx.AsyncClient) -> None:
    assert (await client.post(ITEMS, json=ITEM | {"name": "e\u0301"})).json()["name"] == "\u00e9"
    for name in ("a\u202eb", "a\u200bb", "\ufeffa", "a\x1b[2J", "a\n", " a", "a" * 101):
        answer = await client.post(ITEMS, json=ITEM | {"name": name})
        assert (answer.status_code, list(pointers(answer))) == (422, ["/name"]), repr(name)


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ("limit=0", "?limit", "invalid"),
        ("limit=1001", "?limit", "invalid"),
        ("limit=05", "?limit", "invalid"),
        ("limit=1e1", "?limit", "invalid"),
        ("limit=1&limit=2", "?limit", "unknown_parameter"),
        ("Limit=1", "?Limit", "unknown_parameter"),
        ("least=9223372036854775808", "?least", "invalid"),
        ("after=2030-01-31T12:00:00", "?after", "invalid"),
        ("after=1700000000", "?after", "invalid"),
        ("fragile=1", "?fragile", "invalid"),
        ("sort=old", "?sort", "invalid"),
        ("cursor=AAAA", "?cursor", "invalid_cursor"),
    ],
)
async def test_a_query_is_read_strictly(client: httpx.AsyncClient, query: str, pointer: str, code: str) -> None:
    answer = await client.get(f"{ITEMS}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert list(pointers(answer)) == [pointer]


async def test_a_right_query_is_taken(client: httpx.AsyncClient) -> None:
    query = (
        "limit=1000&least=-9223372036854775808&after=2030-01-31T12:00:00%2B01:00&fragile=true&sort=new&label=a&label=b"
    )
    assert (await client.get(f"{ITEMS}?{query}&cursor={encode_cursor('items', 'item_')}")).status_code == 200


@pytest.mark.parametrize(
    "row", ["007", "+7", "1.0", "9223372036854775808", "-9223372036854775809", "9" * 500, "x", "%D9%A3"]
)
async def test_a_number_in_a_path_has_one_spelling(client: httpx.AsyncClient, row: str) -> None:
    assert (await client.get(f"/api/v1/shop/rows/{row}")).status_code == 404


@pytest.mark.parametrize("row", ["7", "0", "-7", "9223372036854775807", "-9223372036854775808"])
async def test_every_number_of_64_bits_reaches_its_handler(client: httpx.AsyncClient, row: str) -> None:
    assert (await client.get(f"/api/v1/shop/rows/{row}")).json() == {"row": int(row)}


async def test_an_id_of_another_kind_is_as_unknown_as_one_that_nothing_has(client: httpx.AsyncClient) -> None:
    known = new_id("item")
    for item in (known.upper(), new_id("job"), known[:-1], "0190163d-8694-739b-aea5-966c26f8ad91"):
        answer = await client.get(f"{ITEMS}/{item}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await client.get(f"{ITEMS}/{known}")).json()["code"] == "shop_item_not_found"


async def test_a_refusal_of_the_shop_itself_has_the_same_form(client: httpx.AsyncClient) -> None:
    answer = await client.delete(f"{ITEMS}/x")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    told = answer.json()
    assert (told["code"], told["title"], told["docs"]) == (
        "shop_item_sold",
        "This item is sold.",
        "/docs/errors#shop_item_sold",
    )


@given(st.dictionaries(FIELDS | st.text(), ANY_JSON) | ANY_JSON)
def test_no_json_breaks_the_reading_of_a_body(value: Any) -> None:
    body = json.dumps(value).encode()
    try:
        strict_json.check(body)
        taken: Any = read_body(body, NewItem)
    except (Invalid, Malformed):
        return
    assert isinstance(taken, NewItem)


def test_a_problem_that_json_cannot_hold_is_told_without_its_details() -> None:
    told = json.loads(problem(Conflict("\ud800", fields=(FieldError("/a", "b"),), more="\udfff"), "req_1"))
    assert (told["code"], told["detail"], told["status"]) == ("conflict", Conflict.summary(), 409)
    assert "errors" not in told


def test_a_pattern_is_told_as_ecma_262_writes_it_and_a_wrong_choice_is_not_repeated() -> None:
    assert readable_message(r"Expected `str` matching regex '^[a-z]+\\Z'") == "Expected `str` matching regex '^[a-z]+$'"
    assert "secret" not in readable_message("Invalid enum value 'secret'")


def test_headers_of_a_problem_belong_to_its_kind() -> None:
    assert problem_headers(Unavailable(retry_after=7)) == {"retry-after": "7"}
    assert problem_headers(NotFound()) == {}
    assert json.loads(problem(Unavailable(), None))["retryable"]


def test_unknown_errors_become_ours_and_show_nothing() -> None:
    assert as_app_error(Forbidden("no")).message == "no"
    assert isinstance(as_app_error(MalformedId("job")), NotFound)
    assert isinstance(as_app_error(HTTPException("inside", status_code=418)), Malformed)
    hidden = as_app_error(RuntimeError("a secret of the inside"))
    assert (hidden.status, "secret" in hidden.message) == (500, False)


def test_head_is_taken_wherever_get_is() -> None:
    assert with_head("POST, GET") == "GET, HEAD, POST"
    assert with_head("POST") == "POST"
    assert with_head("") == ""


def test_a_handler_that_says_not_who_may_call_it_stops_the_app() -> None:
    @get("/open", operation_id="open")
    async def open_door() -> None:
        """Be open."""

    @post("/change", operation_id="change", opt={"permission": "a:b"})
    async def change() -> None:
        """Change something."""

    with pytest.raises(ImproperlyConfiguredException, match=r"/change: .* natural; /open: .* no permission"):
        check_routes(Litestar([open_door, change], **app_options()))
