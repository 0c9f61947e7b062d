"""The fields of a search, and the condition over offers that a tree of comparisons stands for."""

import operator
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any as Anything

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, and_, exists, false, func, literal_column, not_, or_, true

from aitbc.kernel.primitives import ids
from aitbc.modules.marketplace.models.bonds import BondRow
from aitbc.modules.marketplace.models.search import grammar, values
from aitbc.modules.marketplace.models.search.grammar import Comparison, Node, Not
from aitbc.modules.marketplace.models.search.values import GpuSpec, SearchInvalid
from aitbc.modules.marketplace.models.tables import HOUR, OfferRow

ORDERED: Mapping[str, Callable[[Anything, Anything], Anything]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


class Field(Struct, frozen=True):
    """A field of a search: what it compares, how a value of it is read, and whether it has an order."""

    column: Anything
    read: Callable[[str], Anything]
    is_ordered: bool = True
    about: str = ""


def _id(prefix: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not ids.is_id(prefix, text):
            raise SearchInvalid(f"{text!r} is no id: it begins with {prefix}_.")
        return text

    return read


bonded = exists().where(BondRow.account == OfferRow.account, BondRow.state == "locked")
FIELDS: Mapping[str, Field] = {
    "price": Field(OfferRow.price_units, values.price, about="AITBC for one unit or one hour: 0.8, 0.02/1k"),
    "hour": Field(
        literal_column(HOUR, BigInteger()), values.price, about="AITBC for an hour, of work at its measured speed: 2.5"
    ),
    "vram": Field(OfferRow.vram_mib, values.size, about="the memory of one GPU: 80GB, 24GiB"),
    "gpu": Field(OfferRow.gpu_model, values.gpu_spec, False, about="H100, H100:2.., 24GB.., H100:80GB:1..4"),
    "sells": Field(OfferRow.sells, str.lower, False, about="work or device"),
    "kind": Field(OfferRow.kind, str.lower, False, about="the kind of work: chat"),
    "model": Field(func.lower(OfferRow.model), str.lower, False, about="the model that is offered"),
    "region": Field(func.lower(OfferRow.region), str.lower, False, about="where it is: eu-central"),
    "status": Field(OfferRow.status, str.lower, False, about="of the miner; online unless it is named"),
    "verified": Field(
        OfferRow.source != "claimed", values.truth, False, about="true where hardware is not only claimed"
    ),
    "bonded": Field(bonded, values.truth, False, about="true where its owner has locked a bond"),
    "interruptible": Field(OfferRow.interruptible, values.truth, False, about="true or false"),
    "available": Field(OfferRow.capacity - OfferRow.taken, values.whole, about="how many can be had now"),
    "rating": Field(OfferRow.rating_milli, values.stars, about="of the miner, by payers of its work: 4.5"),
    "min_time": Field(OfferRow.min_seconds, values.seconds, about="the shortest rental: 10m"),
    "max_time": Field(OfferRow.max_seconds, values.seconds, about="the longest rental: 7d"),
    "account": Field(OfferRow.account, _id("acct"), False, about="whose it is"),
    "miner": Field(OfferRow.miner, _id("mnr"), False, about="the miner"),
}


def condition(node: Node) -> ColumnElement[bool]:
    """The condition over offers. Raises `SearchInvalid` for fields and values that do not exist."""
    match node:
        case Comparison():
            return _compared(node)
        case Not():
            # What is unknown of an offer (a model that it does not name) is not equal to anything.
            return not_(func.coalesce(condition(node.inner), false()))
        case grammar.All():
            return and_(true(), *(condition(part) for part in node.parts))
        case grammar.Any():
            return or_(false(), *(condition(part) for part in node.parts))


def _compared(one: Comparison) -> ColumnElement[bool]:
    field = FIELDS.get(one.field)
    if field is None:
        near = get_close_matches(one.field, FIELDS, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(FIELDS)}."
        raise SearchInvalid(f"There is no field {one.field!r}. {hint}")
    if one.operator not in ("=", "!=", "in") and not field.is_ordered:
        raise SearchInvalid(f"{one.field} has no order: compare it by = or !=, or with in.")
    wanted = [field.read(value) for value in one.values]
    if one.field == "gpu":
        fits = or_(*(_fits(spec) for spec in wanted))
        return not_(fits) if one.operator == "!=" else fits
    if one.operator == "in":
        return or_(*(field.column == value for value in wanted))
    compared: ColumnElement[bool] = ORDERED[one.operator](field.column, wanted[0])
    # What an offer does not name differs from all that can be named.
    return func.coalesce(compared, one.operator == "!=")


def _fits(spec: GpuSpec) -> ColumnElement[bool]:
    """Whether an offer has such GPUs."""
    needed: list[ColumnElement[bool]] = [OfferRow.gpu_model != ""]
    if spec.names:
        needed.append(or_(*(OfferRow.gpu_model.icontains(name, autoescape=True) for name in spec.names)))
    for column, (low, high) in (
        (OfferRow.vram_mib, spec.vram_mib),
        (OfferRow.capacity - OfferRow.taken, spec.count),
    ):
        if low is not None:
            needed.append(column >= low)
        if high is not None:
            needed.append(column <= high)
    return and_(*needed)
