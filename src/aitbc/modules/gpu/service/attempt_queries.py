"""The attempts of miners that ended, as a query: those that were heard of, and those that older miners delivered just now."""

from sqlalchemy import Subquery, literal, select, union_all

from aitbc.modules.gpu.models.legacy import LegacyLeaseRow
from aitbc.modules.gpu.models.tables import ReputationEventRow


def worked_attempts() -> Subquery:
    """One row for each attempt, with what was paid for it where this module knows that.

    A result that came in the older dialect is known before its event is heard; one row stands for both.
    """
    event, lease = ReputationEventRow, LegacyLeaseRow
    heard = select(
        event.attempt,
        event.miner,
        event.job,
        event.job_kind.label("kind"),
        event.outcome,
        event.reason,
        event.started_at,
        event.ended_at,
        lease.receipt,
        lease.earned_units,
    ).outerjoin(lease, lease.attempt == event.attempt)
    fresh = select(
        lease.attempt,
        lease.miner,
        lease.job,
        lease.kind,
        literal("succeeded"),
        literal("completed"),
        lease.taken_at,
        lease.ended_at,
        lease.receipt,
        lease.earned_units,
    ).where(lease.receipt.is_not(None), ~select(1).where(event.attempt == lease.attempt).exists())
    return union_all(heard, fresh).subquery("worked")
