"""What must hold in the database when the dust has settled, asked in SQL."""

import asyncio

import asyncpg

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import ids
from tests.chaos.load import Acknowledged

NOTHING = {
    "a transaction whose entries do not sum to zero": """
        SELECT transaction_id FROM trading.entries GROUP BY transaction_id, asset HAVING sum(amount_units) <> 0""",
    "an entry of another asset than its account": """
        SELECT e.transaction_id FROM trading.entries e JOIN trading.accounts a ON a.id = e.account_id
        WHERE coalesce(e.asset, 'AITBC') <> a.asset""",
    "an account whose balance is not the sum of its entries": """
        SELECT a.id FROM trading.accounts a LEFT JOIN trading.entries e ON e.account_id = a.id
        GROUP BY a.id, a.balance_units HAVING a.balance_units <> coalesce(sum(e.amount_units), 0)""",
    "an owner who owes": "SELECT id FROM trading.accounts WHERE owner LIKE 'acct_%' AND balance_units < 0",
    "escrow that is not the open holds and orders": """
        WITH held AS (
            SELECT 'AITBC' AS asset, amount_units FROM trading.holds WHERE state = 'open' UNION ALL
            SELECT CASE o.side WHEN 'buy' THEN p.quote ELSE p.base END, o.held_units
            FROM trading.exchange_orders o JOIN trading.exchange_pairs p ON p.id = o.pair)
        SELECT asset FROM (SELECT asset, sum(amount_units) AS held FROM held GROUP BY asset) h
        FULL JOIN (SELECT asset, sum(balance_units) AS escrow FROM trading.accounts WHERE purpose = 'escrow'
            GROUP BY asset) e USING (asset)
        WHERE coalesce(held, 0) <> coalesce(escrow, 0)""",
    "an account whose held money is not its open holds and orders": """
        WITH held AS (
            SELECT 'AITBC' AS asset, amount_units FROM trading.holds WHERE state = 'open' UNION ALL
            SELECT CASE o.side WHEN 'buy' THEN p.quote ELSE p.base END, o.held_units
            FROM trading.exchange_orders o JOIN trading.exchange_pairs p ON p.id = o.pair)
        SELECT asset FROM (SELECT asset, sum(amount_units) AS held FROM held GROUP BY asset) h
        FULL JOIN (SELECT asset, sum(held_units) AS counted FROM trading.accounts GROUP BY asset) a USING (asset)
        WHERE coalesce(held, 0) <> coalesce(counted, 0)""",
    "an open order that does not hold what is open of it": """
        SELECT id FROM trading.exchange_orders WHERE held_units <> CASE WHEN state <> 'open' THEN 0
            WHEN side = 'sell' THEN quantity_units - filled_units
            ELSE (quantity_units - filled_units)::numeric * price_units / 100000000 END""",
    "an order whose trades are not what it counts": """
        SELECT o.id FROM trading.exchange_orders o LEFT JOIN trading.exchange_trades t ON o.id IN (t.maker, t.taker)
        GROUP BY o.id, o.filled_units, o.cost_units, o.fee_units HAVING o.filled_units <> coalesce(sum(t.quantity_units), 0)
            OR o.cost_units <> coalesce(sum(t.cost_units), 0) OR o.fee_units <> coalesce(sum(
                CASE o.side WHEN 'buy' THEN t.buyer_fee_units ELSE t.seller_fee_units END), 0)""",
    "a trade without its transaction, or two sides of one account": """
        SELECT t.id FROM trading.exchange_trades t LEFT JOIN trading.transactions p ON p.id = t.id AND p.kind = 'trade'
        WHERE p.id IS NULL OR t.buyer = t.seller""",
    "a book that is crossed": """
        SELECT b.pair FROM trading.exchange_orders b JOIN trading.exchange_orders s USING (pair)
        WHERE b.side = 'buy' AND s.side = 'sell' AND b.state = 'open' AND s.state = 'open'
            AND b.price_units >= s.price_units""",
    "a pair whose log or trades have a gap": """
        SELECT id FROM trading.exchange_pairs p WHERE events <> (SELECT count(*) FROM trading.exchange_events WHERE pair = p.id)
            OR trades <> (SELECT count(*) FROM trading.exchange_trades WHERE pair = p.id)""",
    "a succeeded job without exactly one receipt": """
        SELECT j.id FROM ai.jobs j LEFT JOIN trading.receipts r ON r.id = j.id
        WHERE (j.state = 'succeeded') <> (r.id IS NOT NULL)""",
    "a hold that does not fit its job": """
        SELECT j.id FROM ai.jobs j LEFT JOIN trading.holds h ON h.id = j.id
        WHERE h.state IS DISTINCT FROM CASE WHEN j.reason = 'hold_expired' THEN 'expired'
            WHEN j.state = 'succeeded' THEN 'settled' WHEN j.state IN ('queued', 'leased', 'running') THEN 'open'
            ELSE 'voided' END""",
    "a hold that may end before its job believes": """
        SELECT j.id FROM ai.jobs j JOIN trading.holds h ON h.id = j.id WHERE h.expires_at < j.hold_expires_at""",
    "a job with two live leases": """
        SELECT job FROM ai.attempts WHERE ended IS NULL GROUP BY job HAVING count(*) > 1""",
    "a job that succeeded twice": """
        SELECT job FROM ai.attempts WHERE ended = 'succeeded' GROUP BY job HAVING count(*) > 1""",
    "an account whose open jobs are miscounted": """
        SELECT account FROM (SELECT account, count(*) FILTER (WHERE state IN ('queued', 'leased', 'running')) AS open
            FROM ai.jobs GROUP BY account) j
        FULL JOIN (SELECT account, sum(CASE WHEN ended THEN -jobs ELSE jobs END) AS counted
            FROM ai.job_counts GROUP BY account) c USING (account)
        WHERE coalesce(open, 0) <> coalesce(counted, 0)""",
    "a hold that does not fit its booking": """
        SELECT b.id FROM gpu.bookings b LEFT JOIN trading.holds h ON h.id = b.id WHERE b.total_units > 0
        AND CASE b.state WHEN 'placed' THEN false WHEN 'active' THEN h.state IS DISTINCT FROM 'open'
            WHEN 'refused' THEN h.state IN ('open', 'settled') ELSE coalesce(h.state, 'open') = 'open' END""",
    "a request that booked twice": """
        SELECT request FROM gpu.bookings WHERE request IS NOT NULL AND state <> 'refused'
        GROUP BY request HAVING count(*) > 1""",
    "a hold that does not fit its dispute": """
        SELECT d.id FROM marketplace.disputes d LEFT JOIN trading.holds h ON h.id = d.hold
        WHERE CASE WHEN d.state IN ('opening', 'open') THEN d.held_units > 0
                AND (h.state, h.payer) IS DISTINCT FROM ('open', d.owner)
            WHEN d.state = 'closed' THEN h.state = 'open' OR coalesce(h.price_units, 0) > d.owed_units
                OR (d.refunded_units > 0) <> (coalesce(h.price_units, 0) > 0) END""",
    "a booking that says of its payment what the ledger doesn't": """
        SELECT b.id FROM gpu.bookings b LEFT JOIN trading.holds h ON h.id = b.id WHERE b.transaction IS NOT NULL
        AND ((h.state, h.price_units) IS DISTINCT FROM ('settled', b.cost_units) OR b.fee_units > b.cost_units)""",
    "a booking of an offer that was paid something else than its slices": """
        SELECT b.id FROM marketplace.bookings b LEFT JOIN marketplace.booking_slices s ON s.booking = b.id
        GROUP BY b.id, b.paid_units HAVING b.paid_units <> coalesce(sum(s.paid_units), 0)""",
    "an agreement that says of its booking what the market doesn't": """
        SELECT a.id FROM trading.trade_agreements a LEFT JOIN marketplace.bookings b ON b.agreement = a.id
        LEFT JOIN trading.trade_settlements s ON s.agreement = a.id WHERE a.settlement_type = 'metered'
        AND a.id NOT IN (SELECT agreement FROM marketplace.agreed_work)
        AND CASE WHEN a.state IN ('completed', 'failed') THEN b.ended_at IS NULL OR a.booking IS DISTINCT FROM b.id
                OR (s.fee_units + s.net_units) IS DISTINCT FROM b.paid_units
                OR s.fee_units <> (SELECT sum(coalesce(fee_units, 0)) FROM marketplace.booking_slices WHERE booking = b.id)
            WHEN a.state = 'cancelled' THEN b.id IS NOT NULL END""",
    "an agreement that says of its jobs what the market doesn't": """
        SELECT a.id FROM trading.trade_agreements a JOIN marketplace.agreed_work w ON w.agreement = a.id
        LEFT JOIN trading.trade_settlements s ON s.agreement = a.id
        WHERE CASE WHEN a.state IN ('completed', 'failed') THEN w.ended_at IS NULL OR a.jobs <> w.jobs
                OR (s.fee_units + s.net_units) IS DISTINCT FROM w.paid_units
            WHEN a.state = 'cancelled' THEN w.jobs <> '{}' END""",
    "a bounty that is not held, or was paid by another amount than it says": """
        SELECT b.id FROM marketplace.bounties b LEFT JOIN trading.holds h ON h.id = b.hold
        WHERE CASE b.state WHEN 'open' THEN (h.state, h.amount_units) IS DISTINCT FROM ('open', b.held_units)
            WHEN 'paid' THEN (h.state, h.price_units) IS DISTINCT FROM ('settled', b.amount_units)
            WHEN 'withdrawn' THEN h.state = 'open' END""",
    "a locked bond that is not held, or a slash that was paid by something else than a refund of it": """
        SELECT b.id FROM marketplace.bonds b LEFT JOIN trading.holds h ON h.id = b.hold
        WHERE b.state IN ('locked', 'leaving') AND (h.state, h.amount_units, h.payer)
            IS DISTINCT FROM ('open', b.amount_units, b.account)
        UNION ALL SELECT s.id FROM marketplace.slashes s LEFT JOIN trading.transactions t ON t.id = s.transaction
        WHERE s.state = 'paid' AND t.kind IS DISTINCT FROM 'refund'""",
    "a refund of more than what was set aside and the fee of it": """
        SELECT id FROM marketplace.disputes WHERE refunded_units > owed_units + fee_units
        OR owed_units > held_units OR (state = 'closed') <> (closed_at IS NOT NULL)""",
    "a part of an open bid that is not held, or of one that is over that is": """
        SELECT p.bid FROM marketplace.bid_parts p JOIN marketplace.bids b ON b.id = p.bid
        LEFT JOIN trading.holds h ON h.id = p.hold
        WHERE CASE p.state WHEN 'held' THEN b.state <> 'open' OR h.state IS DISTINCT FROM 'open'
            OR h.amount_units <> p.amount_units WHEN 'returned' THEN h.state = 'open' END""",
    "a slice of a booking that was paid by another hold than its own": """
        SELECT s.booking FROM marketplace.booking_slices s LEFT JOIN trading.holds h ON h.id = s.hold
        WHERE s.paid_units > 0 AND (h.state, h.price_units) IS DISTINCT FROM ('settled', s.paid_units)""",
    "room that an upload which is over still has": "SELECT id FROM ai.artifacts WHERE digest = 'uploading'",
    "an event that was not delivered": """
        SELECT id FROM ai.outbox WHERE delivered_at IS NULL UNION ALL SELECT id FROM gpu.outbox WHERE delivered_at IS NULL
        UNION ALL SELECT id FROM trading.outbox WHERE delivered_at IS NULL""",
}


async def connected(target: Target) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection of the owner's, as soon as the database lives again."""
    for _ in range(200):
        try:
            return await asyncpg.connect(**target.connect_arguments(application="audit", statement_seconds=60))
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.1)
    raise AssertionError("the database did not come back")


async def faults(target: Target, told: Acknowledged) -> list[str]:
    """What does not hold; empty when nothing acknowledged was lost and nothing was done twice."""
    connection = await connected(target)
    try:
        found = []
        for name, query in NOTHING.items():
            rows = await connection.fetch(query)
            if rows:
                found.append(f"{name}: {len(rows)}, for instance {dict(rows[0])}")
        jobs = {
            ids.encode("job", row["id"]): row["state"]
            for row in await connection.fetch("SELECT id, state FROM ai.jobs")
        }
        lost = [job for job in told.jobs.values() if job not in jobs]
        unpaid = [job for job in told.delivered if jobs.get(job) != "succeeded"]
        extra = len(jobs) - len(set(told.jobs.values()))
        booked = {
            ids.encode("book", row["id"])
            for row in await connection.fetch("SELECT id FROM gpu.bookings WHERE state <> 'refused'")
        }
        found += (
            [f"bookings and their acknowledgments differ: {differ}"]
            if (differ := sorted(booked ^ set(told.bookings.values())))
            else []
        )
        found += [f"an acknowledged job is gone: {lost[:3]}"] if lost else []
        found += [f"a promised receipt is gone: {unpaid[:3]}"] if unpaid else []
        found += [f"{extra} jobs that nobody was told of"] if extra else []
        return found
    finally:
        await connection.close()


async def open_work(target: Target) -> int:
    """How many jobs, open holds and undelivered events there are still."""
    connection = await connected(target)
    try:
        count = await connection.fetchval(
            """SELECT (SELECT count(*) FROM ai.jobs WHERE state IN ('queued', 'leased', 'running'))
            + (SELECT count(*) FROM trading.holds WHERE state = 'open')
            + (SELECT count(*) FROM ai.outbox WHERE delivered_at IS NULL AND dead_at IS NULL)
            + (SELECT count(*) FROM gpu.outbox WHERE delivered_at IS NULL AND dead_at IS NULL)
            + (SELECT count(*) FROM trading.outbox WHERE delivered_at IS NULL AND dead_at IS NULL)
            + (SELECT count(*) FROM marketplace.outbox WHERE delivered_at IS NULL AND dead_at IS NULL)
            + (SELECT count(*) FROM trading.trade_agreements WHERE settlement_type = 'metered'
                AND state IN ('agreed', 'settling'))"""
        )
        return int(count)
    finally:
        await connection.close()
