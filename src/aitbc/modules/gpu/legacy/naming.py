"""Who is meant and what is asked for: older callers say it in a header, in the query or in the body."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec
from litestar.datastructures import Headers
from litestar.params import QueryParams
from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.text import Name, normalized

Wish = TypeVar("Wish", bound=Struct)
HEADER = "x-miner-id"
FIELD = "miner_id"


class Asked(Struct, frozen=True):
    """What a query may ask for; anything else in it is passed over, as it always was."""

    limit: int = 20
    offset: int = 0
    job_type: str | None = None
    type: str | None = None
    job_status: str | None = None
    status: str | None = None
    min_reward: float | None = None
    from_time: str | None = None
    to_time: str | None = None
    gpu_id: str | None = None
    miner_id: str | None = None
    model_name: str | None = None
    architecture: str | None = None
    edge_optimized: bool | None = None
    min_memory_gb: int | None = None


def miner_named(headers: Headers, query: QueryParams, told: str | None = None) -> str | None:
    """The name of the calling miner: from X-Miner-ID, else from the query, else as the body `told` it. Raises `Invalid`."""
    found = headers.get(HEADER) or query.get(FIELD) or told
    return None if found is None else miner_name(str(found))


def miner_name(text: str) -> str:
    """A name that a miner can have: one line of up to 100 characters. Raises `Invalid`."""
    try:
        return str(normalized(msgspec.convert(text, Name), Name))
    except msgspec.ValidationError:
        message = "Expected one line of up to 100 characters, without blanks at its ends"
        raise Invalid(fields=(FieldError(f"/{FIELD}", message),)) from None


def asked(query: QueryParams, *, limit_max: int = 1000) -> Asked:
    """What the query asks for. Raises `Invalid` for what cannot be read as it must be."""
    values = {name: query[name] for name in Asked.__struct_fields__ if query.get(name) not in (None, "")}
    try:
        found = msgspec.convert(values, Asked, strict=False)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        raise Invalid(fields=(FieldError(f"?{place.rstrip('`')}", message),)) from None
    if not 0 < found.limit <= limit_max:
        raise Invalid(fields=(FieldError("?limit", f"Expected a number from 1 to {limit_max}"),))
    if not 0 <= found.offset <= 2**31:
        raise Invalid(fields=(FieldError("?offset", "Expected a number from 0 on"),))
    return found


def moment(text: str | None, field: str) -> datetime | None:
    """A time of the older dialect; one that does not say its offset is in UTC. Raises `Invalid`."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(fields=(FieldError(f"?{field}", "Expected a time in ISO 8601"),)) from None


def units_of(amount: Any, pointer: str) -> int:
    """Minor units of an amount written as a number, exactly. Raises `Invalid` for one that is negative or too fine."""
    refusal = Invalid(fields=(FieldError(pointer, "Expected an amount from 0 on with at most eight decimal places"),))
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str)):
        raise refusal
    try:
        units = Decimal(str(amount)) * money.UNIT  # the shortest text of a float is what its sender wrote
        if not units.is_finite() or units != units.to_integral_value() or not 0 <= units <= money.LARGEST:
            raise refusal
        return int(units)
    except InvalidOperation:
        raise refusal from None


def amount_of(units: int) -> float:
    """An amount as the older dialect writes it: a number, of which clients may have read the last places wrongly."""
    return float(units / money.UNIT)


def first_text(found: Mapping[str, Any], *names: str) -> str | None:
    """The first of these fields that holds some text."""
    return next((found[name] for name in names if isinstance(found.get(name), str) and found[name]), None)
