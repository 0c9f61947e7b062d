"""Trade between agents: every path of it is refused, since it comes with the marketplace module."""

from aitbc.kernel.legacy.not_done import not_done

LOOK, ACT = "chain:read", "ledger:read"
REASON = (
    "Requests, matches, agreements and settlements between agents come with the marketplace module, which is not built "
    "yet. Jobs are bought through /api/v1/ai/jobs."
)
LISTS = [f"/v1/trading/{name}" for name in ("requests", "matches", "agreements", "negotiations")]
GETS = (*LISTS, "/v1/trading/analytics", *(f"{path}/{{id:str}}" for path in LISTS))
POSTS = (*LISTS, "/v1/trading/simulate-match")
OF_REQUEST = "/v1/trading/requests/{id:str}/matches"

LegacyTrades = not_done(
    REASON, read=LOOK, write=ACT, gets=(*GETS, "/v1/transactions"), posts=(*POSTS, "/v1/transactions")
)
CoordinatorTrades = not_done(
    REASON,
    read=LOOK,
    write=ACT,
    gets=(*GETS, OF_REQUEST, "/v1/trading/agents/{id:str}/summary"),
    posts=(*POSTS, OF_REQUEST),
)
StateDump = not_done(
    "This chain has no state dump; `aitbc chain export` gives all that is sealed.", read=LOOK, gets=("/v1/state/dump",)
)
