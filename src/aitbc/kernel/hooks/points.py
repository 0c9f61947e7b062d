"""The hooks: what a plugin is asked, what it may answer, and how the answers of several become one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct, structs

Question = TypeVar("Question", bound=Struct)
Answer = TypeVar("Answer", bound=Struct)

PRICE_FACTOR_MAX = 100
"""How many times the list price of a unit a plugin may ask at most."""
TEXT_BYTES_MAX = 500
"""The longest text in an answer, in bytes of UTF-8."""
SHOWN_BYTES_MAX = 32 * 1024
"""The longest text that comes from outside in a question; a longer one is left out."""


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
    join: Callable[[Question, Answer, Answer], Answer] | None = None
    """Of a folded hook: one answer for two, the second of which is to what the first made of the question; without it
    the second stands for both.
    """
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


class OffersRanked(Struct, frozen=True, kw_only=True):
    """The miners that fit a job, the best first, as the plugins before this one left them."""

    at: int
    """Seconds since 1970, UTC."""
    account: str
    kind: str
    model: str
    prefer: str
    """What the payer prefers: `cheapest`, `fastest` or `balanced`; empty where nothing was said."""
    units_max: int
    count: int
    """How many there are: at most 100."""
    offers: str
    """A JSON list of objects: `miner`, `offer`, `unit_price_units`, `units_per_1000_seconds`, `is_free`."""


class Order(Struct, frozen=True, kw_only=True):
    """In which order offers are better."""

    order: str
    """Positions in the list that was asked about, from 0, the best first: `2,0`; those not named follow as they are."""


class Happened(Struct, frozen=True, kw_only=True):
    """An event that concerns accounts, as their webhooks are told of it."""

    at: int
    """Seconds since 1970, UTC."""
    event: str
    """Its id: an event may be told twice."""
    kind: str
    """For example `ai.job_succeeded`."""
    accounts: str
    """Whom it concerns, with a blank between."""
    data: str
    """The public part of the event as JSON text; empty where it is longer than 32 KiB."""


class Noted(Struct, frozen=True, kw_only=True):
    """That a plugin has heard: an answer without content, for which none stands just as well."""


def _no_reason(_: Struct, answer: Refusal) -> str | None:
    return None if answer.reason.strip() else "a refusal without a reason"


def _no_price(asked: PriceAsked, answer: Price) -> str | None:
    most = asked.list_price_units * PRICE_FACTOR_MAX
    if 0 <= answer.unit_price_units <= most:
        return None
    return f"a price outside of 0 to {most} minor units"


def _priced(asked: PriceAsked, answer: Price) -> PriceAsked:
    return structs.replace(asked, unit_price_units=answer.unit_price_units)


def positions(answer: Order) -> list[int] | None:
    """The positions that an answer names; none where it names anything else."""
    parts = [part.strip() for part in answer.order.split(",")]
    return [int(part) for part in parts] if all(part.isascii() and part.isdigit() for part in parts) else None


def _no_order(asked: OffersRanked, answer: Order) -> str | None:
    found = positions(answer)
    if found is None:
        return "an order that is no list of positions"
    return None if len(set(found)) == len(found) and max(found) < asked.count else "an order of other offers"


def _put(things: Sequence[Any], answer: Order) -> list[Any]:
    """Things in the order of an answer, which is right."""
    found = positions(answer) or []
    rest = [one for position, one in enumerate(things) if position not in found]
    return [things[position] for position in found] + rest


def _ordered(asked: OffersRanked, answer: Order) -> OffersRanked:
    put = _put(msgspec.json.decode(asked.offers), answer)
    return structs.replace(asked, offers=msgspec.json.encode(put).decode())


def _both_orders(asked: OffersRanked, first: Order, second: Order) -> Order:
    put = _put(_put(range(asked.count), first), second)
    return Order(order=",".join(map(str, put)))


VALIDATE_SUBMISSION = Hook("validate_submission", 1, Submission, Refusal, _no_reason)
PRICE = Hook("price", 1, PriceAsked, Price, _no_price, fold=_priced)
RANK_OFFERS = Hook("rank_offers", 1, OffersRanked, Order, _no_order, fold=_ordered, join=_both_orders)
JUDGE_RESULT = Hook("judge_result", 1, Delivered, Refusal, _no_reason)
NOTIFY = Hook("notify", 1, Happened, Noted, lambda _, __: None, seconds=10.0)

HOOKS: dict[str, Hook[Any, Any]] = {
    hook.key: hook for hook in (VALIDATE_SUBMISSION, PRICE, RANK_OFFERS, JUDGE_RESULT, NOTIFY)
}
"""Every hook by its key."""
