"""Operations of public protocols in the OpenAPI document: bodies are described in place, and errors by example."""

from typing import Any

from aitbc.kernel.primitives.json_schema import schema_of

_HERE = "#/$defs/"
_STATUSES = {
    "400": "A parameter is unknown or has a wrong value, or the model's server refuses the request.",
    "401": "There is no key, or it is not valid.",
    "402": "There is not enough money, or a budget does not cover it.",
    "404": "No miner serves the model, or there is no such thing.",
    "429": "A rate limit, or too much at once; `Retry-After` says when to ask again.",
    "default": "Any other failure. `docs/errors.md` has the codes.",
}


def inlined(kind: Any) -> dict[str, Any]:
    """The schema of a type whose parts stand where they are used: none has a name among those of the API."""
    schema = schema_of(kind)
    return dict(_inlined(schema, schema.pop("$defs", {})))


def _inlined(schema: Any, named: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, named) for one in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref", "")
    if isinstance(reference, str) and reference.startswith(_HERE):
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        return _inlined(named[reference.removeprefix(_HERE)], named) | beside
    kept = {name: value for name, value in schema.items() if name != "discriminator"}  # it would point to names
    return {name: _inlined(value, named) for name, value in kept.items()}


def refusals_in_dialect(path: str) -> dict[str, Any]:
    """The answers to what goes wrong, by status, as the clients of a protocol read them."""
    schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "object"}}}
    content = {"application/json": {"schema": schema, "example": _refusal(path)}}
    return {status: {"description": text, "content": content} for status, text in _STATUSES.items()}


def _refusal(path: str) -> dict[str, Any]:
    inner: dict[str, Any] = {"message": "No miner serves the model 'nope'.", "type": "invalid_request_error"}
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": inner | {"type": "not_found_error"}}
    return {"error": inner | {"param": "model", "code": "model_not_found"}}
