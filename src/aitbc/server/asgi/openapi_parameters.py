"""What parameters of paths and queries mean: one name means one thing in every module."""

ID = "01k0000000000000000000000a"
PATH = {
    "account": ("The account.", f"acct_{ID}"),
    "address": ("The address: an account, as older clients call it.", f"acct_{ID}"),
    "artifact": ("The artifact.", f"art_{ID}"),
    "attempt": ("The attempt: the lease of a job.", f"att_{ID}"),
    "block": ("The block: its number, or its hash.", "12"),
    "booking": ("The booking.", f"book_{ID}"),
    "budget": ("The budget.", f"bdgt_{ID}"),
    "delivery": ("The delivery.", f"dlv_{ID}"),
    "endpoint": ("The endpoint.", f"hook_{ID}"),
    "event": ("The event.", f"evt_{ID}"),
    "job": ("The job.", f"job_{ID}"),
    "key": ("The key, by its id.", f"key_{ID}"),
    "listing": ("The listed GPU.", f"gpu_{ID}"),
    "miner": ("The miner.", f"mnr_{ID}"),
    "proof": ("The proof.", f"prf_{ID}"),
    "rate_limit": ("The rate limit.", f"rlim_{ID}"),
    "receipt": ("The receipt.", f"rcpt_{ID}"),
    "transaction": ("The transaction.", f"txn_{ID}"),
    "monitor": ("The monitor.", f"mon_{ID}"),
    "objective": ("The objective.", f"slo_{ID}"),
    "rule": ("The alert rule.", f"arul_{ID}"),
    "window": ("The maintenance window.", f"mwin_{ID}"),
    "offer": ("The offer.", f"toff_{ID}"),
    "market_offer": ("The offer.", f"offer_{ID}"),
    "trade_request": ("The request.", f"treq_{ID}"),
    "match": ("The match.", f"tmat_{ID}"),
    "negotiation": ("The negotiation.", f"tneg_{ID}"),
    "agreement": ("The agreement.", f"tagr_{ID}"),
    "settlement": ("The settlement.", f"tset_{ID}"),
}
QUERY = {
    "account": ("The account whose entries are wanted; others than one's own are for operators.", f"acct_{ID}"),
    "action": ("Only entries of this action.", "job.cancel"),
    "attempt": ("For miners: the attempt whose output this is.", f"att_{ID}"),
    "available": ("Only those that can be booked now, or only the others.", None),
    "by": ("How wide a point is, or what sums are made by; it may be given several times.", "day"),
    "days": ("How many days back it begins, today included.", None),
    "endpoint": ("Only deliveries to this endpoint.", f"hook_{ID}"),
    "figure": ("The metric, with labels or without.", "aitbc_ledger_holds"),
    "filter": ("What is wanted, as `field op value` with and, or, not.", "vram >= 80GB and price < 1"),
    "firing": ("Only those that are not cleared.", None),
    "from_day": ("From this day (UTC) on.", None),
    "hours": ("For how many hours.", None),
    "job": ("Only of this job.", f"job_{ID}"),
    "kind": ("Only of this kind of work.", "chat"),
    "miner": ("Only of this miner.", f"mnr_{ID}"),
    "model": ("Only those with this in their name.", "H100"),
    "module": ("Only of this module.", "ai"),
    "monitor": ("Only of this monitor, by its id or name.", f"mon_{ID}"),
    "payer": ("Only what this account paid.", f"acct_{ID}"),
    "period": ("The day, week or month (UTC) that goes on.", None),
    "trade_type": ("Only of this type.", None),
    "q": ("An id, or the number or hash of a block.", f"rcpt_{ID}"),
    "reference": ("Only what was for this job or booking.", f"job_{ID}"),
    "region": ("Only those in this region.", "eu-central"),
    "sort": ("What comes first; with `-` the other way round.", None),
    "gpu": ("Only of this GPU, by its uuid.", "GPU-5b2c0c4e-8f5a-4a53-9d5b-7f1f2f6b3a10"),
    "step": ("How much time each reading stands for.", None),
    "since": ("Only what is from this time on.", None),
    "state": ("Only those that are in this state.", None),
    "to_day": ("Until this day (UTC), itself included.", None),
    "status": ("The older name of `state`; of miners, only those in this status.", None),
}


def described(where: str, name: str) -> tuple[str | None, str | None]:
    """What a parameter means, and an example; of a query nothing where its type says it."""
    if where == "path":
        return PATH.get(name, (f"The {name.replace('_', ' ')}.", None))
    return QUERY.get(name, (None, None))
