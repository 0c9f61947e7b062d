"""Errors with stable codes: a small class hierarchy, each class with its HTTP status and exit code.

    AppError
    ├── Invalid          422  the request is well formed but not valid
    ├── Malformed        400  the request cannot be parsed
    ├── Unauthenticated  401  no key, or one that is not valid
    ├── PaymentRequired  402  money or budget is short
    ├── Forbidden        403  the key may not do this
    ├── NotFound         404  no such thing, or not yours
    ├── Conflict         409  the present state does not allow it
    ├── TooLarge         413  a limit on size
    ├── TooMany          429  a limit on rate
    ├── NotDone          501  cannot be done yet; the message says why
    └── Unavailable      503  try again later: `Retry-After` says when

A subclass declares its own `code`; its docstring is the message that people read. Code catches classes and clients read
codes; an error that crosses processes is raised there as the same class.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import Struct


class FieldError(Struct, frozen=True):
    """One thing wrong with one field; `pointer` is a JSON pointer (RFC 6901) into the body, or `?name` for a query."""

    pointer: str
    """A JSON pointer into the body, or `?name` for a parameter of the query. For example `/max_price`."""
    message: str
    """What is wrong with it. For example `Expected a decimal string`."""


class AppError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = 1
    registry: ClassVar[dict[str, type["AppError"]]] = {}

    def __init__(
        self,
        message: str | None = None,
        *,
        fields: tuple[FieldError, ...] = (),
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ) -> None:
        self.message = message or self.summary()
        self.fields = fields
        self.headers = dict(headers or {})
        self.details = details
        super().__init__(self.message)

    def __init_subclass__(cls) -> None:
        if "code" not in cls.__dict__:
            raise TypeError(f"{cls.__name__} must state a code of its own")
        other = AppError.registry.setdefault(cls.code, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"the error code {cls.code} belongs to {other.__module__}.{other.__qualname__}")
        AppError.registry[cls.code] = cls

    @classmethod
    def summary(cls) -> str:
        """The first line of the class's docstring: the message that people read."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0]


class Malformed(AppError):
    """The request cannot be read."""

    status, code, exit_code = 400, "malformed", 2


class Invalid(AppError):
    """The request is not valid."""

    status, code, exit_code = 422, "invalid", 2


class Unauthenticated(AppError):
    """A valid API key is needed."""

    status, code, exit_code = 401, "unauthenticated", 4


class PaymentRequired(AppError):
    """There is not enough money for this."""

    status, code, exit_code = 402, "payment_required", 5


class Forbidden(AppError):
    """This key may not do that."""

    status, code, exit_code = 403, "forbidden", 4


class NotFound(AppError):
    """There is no such thing here."""

    status, code, exit_code = 404, "not_found", 3


class Conflict(AppError):
    """The present state does not allow this."""

    status, code, exit_code = 409, "conflict", 5


class TooLarge(AppError):
    """The request is larger than allowed."""

    status, code, exit_code = 413, "too_large", 2


class TooMany(AppError):
    """Too many requests; slow down."""

    status, code, exit_code = 429, "too_many_requests", 6


class NotDone(AppError):
    """This cannot be done yet."""

    status, code, exit_code = 501, "not_implemented", 1


class Unavailable(AppError):
    """The service cannot answer now; try again shortly."""

    status, code, exit_code = 503, "unavailable", 6

    def __init__(self, message: str | None = None, *, retry_after: int = 1, **details: Any) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)}, **details)


class AmountOverflow(Invalid):
    """The amount is larger than the ledger can hold."""

    code = "amount_overflow"


class StorageFull(Unavailable):
    """There is no room left to store this; reading still works."""

    code = "storage_full"


class StorageFailed(Unavailable):
    """The disk takes no writes now, or cannot be read."""

    code = "storage_failed"


class OutcomeUnknown(Unavailable):
    """The connection broke while the change was being made; ask again with the same Idempotency-Key."""

    code = "outcome_unknown"


class ConfigError(AppError):
    """The configuration cannot be used."""

    code, exit_code = "bad_configuration", 78
