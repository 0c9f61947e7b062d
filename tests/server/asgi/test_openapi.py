"""The description of the API, made from the handlers of the shop."""

from typing import Any

import pytest
from litestar import Litestar, get
from openapi_spec_validator import OpenAPIV31SpecValidator

from aitbc.kernel.primitives.errors import AppError
from aitbc.server.asgi.app_options import app_options
from aitbc.server.asgi.openapi import advice, catalogued, document
from tests.kernel.shop import Shelf, shop


def described(app: Litestar) -> dict[str, Any]:
    """The document of an app."""
    return document(app, title="Shop", version="1.0", description="A shop for tests.")


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """The document of the shop."""
    return described(shop(Shelf()))


def parameters(told: dict[str, Any], path: str) -> dict[str, Any]:
    """The parameters of what is read at a path, by name."""
    return {one["name"]: one for one in told["paths"][path]["get"]["parameters"]}


def test_it_is_valid_and_names_every_operation_once(told: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(told).validate()
    found = [one["operationId"] for item in told["paths"].values() for one in item.values()]
    assert sorted(found) == sorted(set(found))
    assert {"create_item", "list_items", "read_item", "delete_item", "upload_picture"} <= set(found)


def test_summary_and_text_come_from_the_docstring(told: dict[str, Any]) -> None:
    create = told["paths"]["/api/v1/shop/items"]["post"]
    assert create["summary"] == "Put an item on the shelf"
    assert "It can be bought at once." in create["description"]
    assert create["x-permission"] == "items:write"
    assert create["security"] == [{"bearer": []}]
    assert told["paths"]["/healthz"]["get"]["security"] == []


def test_limits_and_defaults_of_the_query_are_told(told: dict[str, Any]) -> None:
    found = parameters(told, "/api/v1/shop/items")
    assert found["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
    assert found["label"]["schema"]["type"] == "array"
    assert set(found["sort"]["schema"]["enum"]) == {"new", "used"}
    assert not found["cursor"]["required"]


def test_a_time_in_the_query_is_told_as_one(told: dict[str, Any]) -> None:
    assert parameters(told, "/api/v1/shop/items")["after"]["schema"]["format"] == "date-time"


def test_patterns_are_those_of_ecma_262(told: dict[str, Any]) -> None:
    schemas = str(told["components"]["schemas"])
    assert "pattern" in schemas
    assert r"\Z" not in schemas.replace(r"\\", "\\")


def test_pages_have_plain_names(told: dict[str, Any]) -> None:
    answer = told["paths"]["/api/v1/shop/items"]["get"]["responses"]["200"]["content"]["application/json"]
    assert answer["schema"] == {"$ref": "#/components/schemas/PageOfItem"}
    assert set(answer["example"]) >= {"data", "has_more"}


def test_every_failure_has_a_status_and_an_example_for_each_code(told: dict[str, Any]) -> None:
    responses = told["paths"]["/api/v1/shop/items/{item}"]["get"]["responses"]
    problem = responses["404"]["content"]["application/problem+json"]
    assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert {"not_found", "shop_item_not_found"} <= set(problem["examples"])
    assert problem["examples"]["shop_item_not_found"]["value"]["status"] == 404
    assert "default" in responses
    assert {"401", "403"} <= set(responses)


def test_only_what_takes_a_body_may_refuse_its_form(told: dict[str, Any]) -> None:
    assert {"413", "415", "408"} <= set(told["paths"]["/api/v1/shop/items"]["post"]["responses"])
    assert not {"413", "415", "408"} & set(told["paths"]["/api/v1/shop/items"]["get"]["responses"])


def test_an_upload_tells_its_type_and_its_size(told: dict[str, Any]) -> None:
    body = told["paths"]["/api/v1/shop/pictures/{picture}"]["put"]["requestBody"]
    assert body["content"]["image/png"]["schema"]["maxLength"] == 100_000
    assert body["required"]


def test_the_idempotency_key_is_told_where_it_is_taken(told: dict[str, Any]) -> None:
    (key,) = told["paths"]["/api/v1/shop/items"]["post"]["parameters"]
    assert (key["name"], key["in"], key["required"]) == ("Idempotency-Key", "header", False)


def test_an_operation_without_a_text_is_refused() -> None:
    @get("/mute", operation_id="mute", opt={"permission": "public"})
    async def mute() -> None: ...

    with pytest.raises(ValueError, match="GET /mute"):
        described(Litestar([mute], **app_options()))


def test_two_operations_of_one_name_are_refused() -> None:
    @get("/one", operation_id="same", opt={"permission": "public"})
    async def one() -> None:
        """Do one."""

    @get("/two", operation_id="same", opt={"permission": "public"})
    async def two() -> None:
        """Do two."""

    with pytest.raises(ValueError, match="unique: same"):
        described(Litestar([one, two], **app_options()))


def test_the_catalogue_has_each_code_once_with_advice() -> None:
    kinds = catalogued()
    assert AppError in kinds
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(advice(kind).endswith((".", "`")) for kind in kinds)
