"""With whom accounts deal: kept by the events of marketplace, read by claims, and asked for quotes."""

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import elapsed
from aitbc.modules.ai.models.tables import TermsRow
from aitbc.modules.ai.models.terms import ANYBODY, admits, terms_text
from aitbc.modules.marketplace.events import TermsChanged

FRESH_SECONDS = 1.0
ANY_TERMS = "SELECT FROM ai.terms LIMIT 1"


class MarketTerms:
    """Keeps the newest version of each account's terms."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._none_until = 0.0
        """Until then nobody has terms, as it was read."""

    async def apply(self, uow: UnitOfWork, events: Sequence[TermsChanged]) -> None:
        """Keep the newest of each account, in the order of ids."""
        self._none_until = 0.0
        newest = {event.account: event for event in sorted(events, key=lambda event: event.version)}
        for account in sorted(newest):
            event = newest[account]
            values = {
                "version": event.version,
                "buyers": terms_text(event.buyers_mode, event.buyers),
                "owners": terms_text(event.owners_mode, event.owners),
            }
            writing = insert(TermsRow).values(account=account, **values)
            newer = TermsRow.version < writing.excluded.version
            await uow.session.execute(
                writing.on_conflict_do_update(index_elements=[TermsRow.account], set_=values, where=newer)
            )

    async def are_there(self) -> bool:
        """Whether anybody has terms; that nobody has is read once a second."""
        if elapsed() < self._none_until:
            return False
        async with self._db.raw() as connection:
            found = await connection.fetch(ANY_TERMS)
        if not found:
            self._none_until = elapsed() + FRESH_SECONDS
        return bool(found)

    async def refused(self, payer: str, owners: Collection[str]) -> frozenset[str]:
        """Those of these owners who do not deal with a payer, or with whom the payer does not."""
        wanted = select(TermsRow).where(TermsRow.account.in_({payer, *owners}))
        async with self._db.reading() as session:
            known = {row.account: (row.buyers, row.owners) for row in await session.scalars(wanted)}
        _, own = known.get(payer, (ANYBODY, ANYBODY))
        return frozenset(
            owner
            for owner in owners
            if owner != payer and not (admits(own, owner) and admits(known.get(owner, (ANYBODY, ANYBODY))[0], payer))
        )
