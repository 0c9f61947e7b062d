"""The attempts of miners that ended, as a query.

Those whose events came, and those that legacy miners delivered just now.
"""

from sqlalchemy import Subquery, literal, select, union_all

from aitbc.modules.gpu.models.legacy import LegacyLeaseRow
from aitbc.modules.gpu.models.tables import ReputationEventRow


def ended_attempts() -> Subquery:
    """One row for each attempt, with what was paid for it where this module knows that.

    A result of a legacy miner is known before its event comes; one row stands for both.
    """
    event, lease = ReputationEventRow, LegacyLeaseRow
    reported = select(
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
    return union_all(reported, fresh).subquery("ended")
