"""Terms: with whom accounts deal, set by each for itself, told to ai, and asked before anything is taken."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Forbidden
from aitbc.modules.marketplace.events import TermsChanged
from aitbc.modules.marketplace.models.terms import MarketList, MarketTerms, TermsRow, terms_view


class NotAdmitted(Forbidden):
    """The owner of this offer does not deal with you, or you don't deal with its owner: see the terms of both."""

    code = "market_not_admitted"


class Terms:
    """Sets and shows with whom accounts deal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, who: Principal) -> MarketTerms:
        """The caller's terms."""
        async with self._database.reading() as session:
            return terms_view(who.account, await session.get(TermsRow, who.account))

    @retrying
    async def set(self, who: Principal, buyers: MarketList, owners: MarketList) -> MarketTerms:
        """Set the caller's terms: they hold for what is taken from then on. Repeating it changes nothing."""
        async with self._database.unit_of_work() as uow:
            first = {"version": 0, "buyers_mode": "deny", "buyers": [], "owners_mode": "deny", "owners": []}
            making = insert(TermsRow).values(account=who.account, set_at=now(), **first).on_conflict_do_nothing()
            await uow.session.execute(making)
            row = await uow.session.get_one(TermsRow, who.account, with_for_update=True, populate_existing=True)
            before = terms_view(who.account, row)
            wanted = (_sorted(buyers), _sorted(owners))
            if row.version and (before.buyers, before.owners) == wanted:
                return before
            row.buyers_mode, row.buyers = wanted[0].mode, list(wanted[0].accounts)
            row.owners_mode, row.owners = wanted[1].mode, list(wanted[1].accounts)
            row.version, row.set_at = row.version + 1, now()
            uow.publish(
                TermsChanged(
                    account=who.account,
                    version=row.version,
                    buyers_mode=row.buyers_mode,
                    buyers=wanted[0].accounts,
                    owners_mode=row.owners_mode,
                    owners=wanted[1].accounts,
                )
            )
            await uow.audit(who.account, who.key, "market.set_terms", who.account, version=row.version)
            return terms_view(who.account, row)


async def terms_of(uow: UnitOfWork, accounts: Iterable[str]) -> dict[str, MarketTerms]:
    """The terms of those of these accounts that have any."""
    found = await uow.session.scalars(select(TermsRow).where(TermsRow.account.in_(sorted(set(accounts)))))
    return {row.account: terms_view(row.account, row) for row in found}


def deal(terms: dict[str, MarketTerms], payer: str, owner: str) -> bool:
    """Whether a payer and an owner both admit the other; everybody deals with themselves."""
    if payer == owner:
        return True
    of_payer, of_owner = terms.get(payer), terms.get(owner)
    return (of_payer is None or of_payer.owners.admits(owner)) and (of_owner is None or of_owner.buyers.admits(payer))


async def require_admitted(uow: UnitOfWork, payer: str, owner: str) -> None:
    """Raises `NotAdmitted` unless a payer and an owner deal with each other."""
    if not deal(await terms_of(uow, (payer, owner)), payer, owner):
        raise NotAdmitted


def _sorted(one: MarketList) -> MarketList:
    return MarketList(mode=one.mode, accounts=tuple(sorted(set(one.accounts))))
