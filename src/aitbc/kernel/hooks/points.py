"""The hooks: what a plugin is asked, what it may answer, and how the answers of several become one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from msgspec import Struct, structs

Question = TypeVar("Question", bound=Struct)
Answer = TypeVar("Answer", bound=Struct)

PRICE_FACTOR_MAX = 100
"""How many times the list price of a unit a plugin may ask at most."""
TEXT_BYTES_MAX = 500
"""The longest text in an answer, in bytes of UTF-8."""


class PluginFailed(Exception):
    """A plugin did not answer as it should; the message says what it did."""


class NotHere(PluginFailed):
    """What a plugin needs is not in this installation: not the plugin's fault."""


@dataclass(frozen=True)
class Hook(Generic[Question, Answer]):
    """A place at which plugins are asked. Its questions and answers are structs of whole numbers and texts.

    Of a hook that is `folded`, each plugin is asked what the answer of the one before made of the question; of the
    others the first answer counts, and no plugin behind it is asked.
    """

    name: str
    version: int
    """Grows when a field of the question or the answer changes its meaning; a new field comes at the end."""
    question: type[Question]
    answer: type[Answer]
    wrong: Callable[[Question, Answer], str | None]
    """Why an answer cannot be used; none for one that can."""
    fold: Callable[[Question, Answer], Question] | None = None
    seconds: float = 1.0
    """How long one plugin may take."""

    @cached_property
    def key(self) -> str:
        """The name with its version, as manifests and exports of modules have it: `price.1`."""
        return f"{self.name}.{self.version}"

    def __hash__(self) -> int:
        return hash(self.key)


class Submission(Struct, frozen=True, kw_only=True):
    """A job that somebody wants to submit, before any money moves."""

    at: int
    """Seconds since 1970, UTC."""
    account: str
    kind: str
    model: str
    """Empty where any will do."""
    units: int
    """What the input alone is metered at."""
    units_max: int
    max_price_units: int
    """The most that it may cost, in minor units."""
    priority: int
    """From 0 to 9."""


class Refusal(Struct, frozen=True, kw_only=True):
    """Why something is refused, in words that its maker may read."""

    reason: str


class PriceAsked(Struct, frozen=True, kw_only=True):
    """The price of a unit of work that is about to be quoted or charged."""

    at: int
    """Seconds since 1970, UTC."""
    account: str
    kind: str
    model: str
    units_max: int
    unit_price_units: int
    """In minor units, as the plugins before this one left it."""
    list_price_units: int
    """In minor units, as the operator set it."""


class Price(Struct, frozen=True, kw_only=True):
    """What a unit costs."""

    unit_price_units: int


class Delivered(Struct, frozen=True, kw_only=True):
    """A result that passed every check of the platform."""

    at: int
    """Seconds since 1970, UTC."""
    job: str
    kind: str
    miner: str
    units: int
    """What it was metered at."""
    price_units: int
    output: str
    """The output as JSON text; empty where it is longer than 32 KiB."""
    output_bytes: int


def _no_reason(_: Struct, answer: Refusal) -> str | None:
    return None if answer.reason.strip() else "a refusal without a reason"


def _no_price(asked: PriceAsked, answer: Price) -> str | None:
    most = asked.list_price_units * PRICE_FACTOR_MAX
    if 0 <= answer.unit_price_units <= most:
        return None
    return f"a price outside of 0 to {most} minor units"


def _priced(asked: PriceAsked, answer: Price) -> PriceAsked:
    return structs.replace(asked, unit_price_units=answer.unit_price_units)


VALIDATE_SUBMISSION = Hook("validate_submission", 1, Submission, Refusal, _no_reason)
PRICE = Hook("price", 1, PriceAsked, Price, _no_price, fold=_priced)
JUDGE_RESULT = Hook("judge_result", 1, Delivered, Refusal, _no_reason)

HOOKS: dict[str, Hook[Any, Any]] = {hook.key: hook for hook in (VALIDATE_SUBMISSION, PRICE, JUDGE_RESULT)}
"""Every hook by its key."""
