"""What clients asked of other chains: refused with the reason. The exchange itself is trading's."""

from aitbc.kernel.legacy.not_done import not_done

NO_CHAINS = "There is one chain here, ait-devnet: there is nothing to swap with, and nowhere to bridge to."
ID = "{id:str}"

ChainsRefused = not_done(
    NO_CHAINS,
    read="market:read",
    write="market:write",
    gets=(
        *(f"/api/v1/cross-chain/{name}" for name in ("rates", "swaps", "pools", "stats")),
        *(f"/api/v1/cross-chain/{name}/{ID}" for name in ("swap", "bridge")),
    ),
    posts=("/api/v1/cross-chain/swap", "/api/v1/cross-chain/bridge"),
)
