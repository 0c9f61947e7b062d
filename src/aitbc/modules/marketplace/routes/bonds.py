"""The HTTP of bonds."""

from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount, parse
from aitbc.kernel.primitives.text import Text
from aitbc.modules.marketplace.models.bonds import MarketBond
from aitbc.modules.marketplace.routes.bodies import Amount
from aitbc.modules.marketplace.service.bonds.bonds import (
    BondExists,
    BondNotFound,
    Bonds,
    SlashNotFound,
    SlashNotOpen,
)
from aitbc.modules.trading.api import InsufficientFunds

Who = NamedDependency[Principal]
Words = Annotated[Text, Meta(min_length=1)]
NATURAL: dict[str, object] = {"permission": "market:write", "idempotency": "natural"}


class LockBond(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you lock."""

    amount: Amount
    """How much, in AITBC; one or more. For example `50`."""


class AppealSlash(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why nothing is to be taken."""

    reason: Words
    """For the operator, and for who would get it. For example `The miner was up.`."""


class DecideSlash(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an appeal is decided."""

    upholds: bool
    """Whether it is taken all the same. For example `true`."""
    reason: Words
    """Why, for both sides. For example `Its logs end.`."""


class MarketBondController(Controller):
    """What owners lock, so that those whom they harm get it."""

    path = "/bonds"
    tags = ("market",)

    @post(
        "/",
        operation_id="lock_market_bond",
        summary="Lock a bond",
        opt={
            "permission": "market:write",
            "idempotency": "required",
            "errors": (InvalidAmount, AmountOverflow, BondExists, InsufficientFunds),
        },
    )
    async def lock(
        self,
        market_bonds: NamedDependency[Bonds],
        who: Who,
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[LockBond],
    ) -> Response[MarketBond]:
        """Lock money, so that the caller's offers are `bonded` and found by `bonded = true`.

        Where a dispute is decided against the caller, and the caller's account has too little to give back, the rest is
        taken of it for the payer who was harmed: it is announced, and may be appealed against for 72 hours.
        """
        made = await market_bonds.lock(who, parse(data.amount), once)
        return Response(made, status_code=201, headers={"location": f"/api/v1/marketplace/bonds/{made.account}"})

    @get(
        "/{account:str}",
        operation_id="get_market_bond",
        summary="Read a bond",
        opt={"permission": "market:read", "errors": (BondNotFound,)},
    )
    async def one(self, market_bonds: NamedDependency[Bonds], account: FromPath[str]) -> MarketBond:
        """Read the bond of an account, anybody's, with what was taken of it."""
        return await market_bonds.of(account)

    @post(
        "/leave",
        status_code=200,
        operation_id="leave_market_bond",
        summary="Want your bond back",
        opt=NATURAL | {"errors": (BondNotFound,)},
    )
    async def leave(self, market_bonds: NamedDependency[Bonds], who: Who) -> MarketBond:
        """Want the caller's bond back: it stays for 30 days, and what is announced to be taken is taken before."""
        return await market_bonds.leave(who)

    @post(
        "/slashes/{slash:str}/appeal",
        status_code=200,
        operation_id="appeal_market_slash",
        summary="Appeal against a slash",
        opt=NATURAL | {"errors": (SlashNotFound, SlashNotOpen)},
    )
    async def appeal(
        self, market_bonds: NamedDependency[Bonds], who: Who, slash: FromPath[str], data: JSONBody[AppealSlash]
    ) -> MarketBond:
        """Say, as the owner, why nothing is to be taken: the operator decides within seven days, or it is dropped."""
        return await market_bonds.appeal(who, slash, data.reason)

    @post(
        "/slashes/{slash:str}/decision",
        status_code=200,
        operation_id="decide_market_slash",
        summary="Decide an appeal",
        opt={"permission": "ledger:write", "idempotency": "natural", "errors": (SlashNotFound, SlashNotOpen)},
    )
    async def decide(
        self, market_bonds: NamedDependency[Bonds], who: Who, slash: FromPath[str], data: JSONBody[DecideSlash]
    ) -> MarketBond:
        """Decide, as the operator, an appeal of an owner's: it is taken, or dropped."""
        return await market_bonds.decide(who, slash, upholds=data.upholds, words=data.reason)
