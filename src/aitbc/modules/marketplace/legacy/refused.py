"""What the older coordinator promised of its marketplace and nobody can do here: refused, each with its reason."""

from collections.abc import Mapping

from aitbc.kernel.legacy.not_done import not_done

READ, WRITE = "market:read", "market:write"
ID = "{id:str}"
NO_SENDING = (
    "Money is not sent from wallet to wallet here: it is held for a job or a booking and paid to who did the work."
)
NO_CONTRACTS = "This chain runs no contracts."
NO_LOAD_TEST = "Nobody is tested under load by a request; `aitbc top` shows what the platform does."
NO_MODELS = (
    "Models are served, not minted, licensed or auctioned: an offer is for work at a price, and nobody owns a model."
)
NO_ROYALTIES = (
    "What is paid goes to whoever worked, less the platform's fee: there are no royalties and no licences of models."
)
NO_REGIONS = "There is one market, and one installation of it: offers name a region, and there are no others to synchronise with."
NO_BRIDGES = "There is one chain here, ait-devnet: nothing is offered, priced or paid on another."
NO_SCORES = (
    "Agents have no scores that anybody could report or set: miners have a reputation from their attempts,"
    " and ratings of payers."
)
NO_SYNC = "Offers come of the rules of miners' owners, at once: there is nothing to be synchronised by hand."
ADVANCED, ENHANCED = "/v1/marketplace/advanced", "/v1/marketplace/enhanced"
GLOBAL, BRIDGED, SCORED = "/v1/global-marketplace", "/v1/global-marketplace-integration", "/v1/reputation"

REFUSED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    NO_SENDING: ((), ("/payments/process",)),
    NO_SYNC: ((), ("/v1/marketplace/sync-offers",)),
    NO_CONTRACTS: ((), ("/blockchain/contracts/execute",)),
    NO_LOAD_TEST: ((), ("/testing/load-test",)),
    NO_MODELS: (
        (f"{ADVANCED}/models", f"{ADVANCED}/analytics", f"{ADVANCED}/trends", f"{ADVANCED}/disputes/{ID}"),
        (
            *(f"{ADVANCED}/models/{path}" for path in ("mint", f"{ID}/update", f"{ID}/verify", f"{ID}/benchmark")),
            *(f"{ADVANCED}/models/{ID}/royalties", f"{ADVANCED}/reports/generate", f"{ADVANCED}/auctions/{ID}/bid"),
            *(f"{ADVANCED}/trading/execute", f"{ADVANCED}/disputes", f"{ADVANCED}/disputes/{ID}/resolve"),
        ),
    ),
    NO_ROYALTIES: (
        (f"{ENHANCED}/royalty/calculate/{ID}",),
        tuple(
            f"{ENHANCED}/{path}" for path in ("royalty/create", "license/create", "verification/verify", "analytics")
        ),
    ),
    NO_REGIONS: (
        tuple(
            f"{GLOBAL}/{path}"
            for path in (
                *("offers", f"offers/{ID}", "transactions", f"transactions/{ID}", "regions", f"regions/{ID}/health"),
                *("analytics", "config", "health"),
            )
        ),
        tuple(f"{GLOBAL}/{path}" for path in ("offers", "transactions", f"regions/{ID}/health")),
    ),
    NO_BRIDGES: (
        tuple(
            f"{BRIDGED}/{path}"
            for path in (
                *("offers/cross-chain", f"offers/{ID}/cross-chain-details", "transactions/cross-chain"),
                *("analytics/cross-chain", "analytics/marketplace-integration", "status", "config", "health"),
            )
        ),
        tuple(
            f"{BRIDGED}/{path}"
            for path in (
                *("offers/create-cross-chain", f"offers/{ID}/optimize-pricing", "transactions/execute-cross-chain"),
                *("config/update", "diagnostics/run"),
            )
        ),
    ),
    NO_SCORES: (
        tuple(
            f"{SCORED}/{path}"
            for path in (
                *(f"profile/{ID}", f"trust-score/{ID}", "leaderboard", "metrics", f"feedback/{ID}", f"events/{ID}"),
                *(f"{ID}/cross-chain", "cross-chain/leaderboard", "cross-chain/analytics"),
            )
        ),
        tuple(
            f"{SCORED}/{path}"
            for path in (
                *(f"profile/{ID}", f"feedback/{ID}", "job-completion", f"{ID}/cross-chain/sync", "cross-chain/events"),
            )
        ),
    ),
}
"""By reason: what is read, and what is written."""
CoordinatorRefused = tuple(
    not_done(reason, read=READ, write=WRITE, gets=gets, posts=posts) for reason, (gets, posts) in REFUSED.items()
)
