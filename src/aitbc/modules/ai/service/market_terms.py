"""With whom accounts deal: kept by the events of marketplace, and read by claims."""

from collections.abc import Sequence

from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.modules.ai.models.tables import TermsRow
from aitbc.modules.ai.models.terms import terms_text
from aitbc.modules.marketplace.events import TermsChanged


class MarketTerms:
    """Keeps the newest version of each account's terms."""

    async def apply(self, uow: UnitOfWork, events: Sequence[TermsChanged]) -> None:
        """Keep the newest of each account, in the order of ids."""
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
