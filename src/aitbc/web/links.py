"""Where a thing has its page, by the shape of its id."""

PAGES = {
    "job": "/jobs/",
    "graph": "/graphs/",
    "study": "/studies/",
    "mnr": "/miners/",
    "acct": "/explorer/addresses/",
    "system": "/explorer/addresses/",
    "txn": "/explorer/transactions/",
    "rcpt": "/explorer/receipts/",
    "offer": "/market/offers/",
    "sbuy": "/account/classes#",
    "prop": "/proposals/",
    "agt": "/agents/",
    "run": "/agents/runs/",
    "dep": "/agents/deployments/",
    "treq": "/trades/requests/",
    "mbid": "/market/book/",
    "ordr": "/market/exchange/orders/",
    "toff": "/trades/offers/",
    "tmat": "/trades/matches/",
    "tneg": "/trades/negotiations/",
    "tagr": "/trades/agreements/",
    "tset": "/trades/settlements/",
}
"""By the beginning of an id."""
SHOWN_END = 6


def page_of(thing: str) -> str | None:
    """The page of an id; none for what has none."""
    kind = thing.partition("_")[0].partition("/")[0]
    if kind not in PAGES or thing == kind:
        return None
    if kind in ("acct", "system"):
        thing = thing.partition("/")[0] if kind == "acct" else thing.replace("/", ":")
    return PAGES[kind] + thing


def short(thing: str) -> str:
    """An id, a digest or a key, short enough for a table: its beginning and its end."""
    if thing.startswith("system"):
        return thing
    head, mark, rest = thing.rpartition("_")
    if not mark:
        head, mark, rest = thing.rpartition(":")
    if len(rest) <= SHOWN_END + 4:
        return thing
    return f"{head}{mark}{rest[:3]}…{rest[-SHOWN_END:]}"
