"""What clients asked of an exchange, of its bots and of other chains: refused, each with its reason."""

from aitbc.kernel.legacy.not_done import not_done

READ, WRITE = "market:read", "market:write"
NO_EXCHANGE = "AITBC is the one asset of this ledger, and play money: there is nothing that it is exchanged for."
NO_BITCOIN = (
    "This platform has no node of Bitcoin, and sells AITBC for nothing: an operator's deposit or the faucet gives it."
)
NO_CHAINS = "There is one chain here, ait-devnet: there is nothing to swap with, and nowhere to bridge to."
ID = "{id:str}"


def _exchange(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}/{name}" for name in ("pairs", "market-stats", "rates"))


ExchangeRefused = not_done(
    NO_EXCHANGE,
    read=READ,
    write=WRITE,
    gets=_exchange("/api/v1/exchange"),
    posts=tuple(f"/api/v1/exchange/{name}" for name in ("register", "create-pair", "start-trading")),
)
BitcoinRefused = not_done(
    NO_BITCOIN,
    read=READ,
    write=WRITE,
    gets=(f"/api/v1/exchange/payment-status/{ID}", "/api/v1/exchange/wallet/balance", "/api/v1/exchange/wallet/info"),
    posts=("/api/v1/exchange/create-payment",),
)
ChainsRefused = not_done(
    NO_CHAINS,
    read=READ,
    write=WRITE,
    gets=(
        *(f"/api/v1/cross-chain/{name}" for name in ("rates", "swaps", "pools", "stats")),
        *(f"/api/v1/cross-chain/{name}/{ID}" for name in ("swap", "bridge")),
    ),
    posts=("/api/v1/cross-chain/swap", "/api/v1/cross-chain/bridge"),
)
CoordinatorExchange = not_done(
    NO_EXCHANGE,
    read=READ,
    write=WRITE,
    gets=(
        *_exchange("/v1/exchange"),
        *(f"/api/v1/market-maker/{name}" for name in ("performance", "list", "strategies")),
        *(f"/api/v1/market-maker/{name}/{ID}" for name in ("status", "history")),
    ),
    posts=(
        *(f"/v1/exchange/{name}" for name in ("register", "create-pair", "start-trading")),
        "/api/v1/market-maker/create",
        *(f"/api/v1/market-maker/{name}/{ID}" for name in ("config", "start", "stop")),
    ),
)
CoordinatorBitcoin = not_done(
    NO_BITCOIN,
    read=READ,
    write=WRITE,
    gets=(f"/v1/exchange/payment-status/{ID}", "/exchange/wallet/balance", "/exchange/wallet/info"),
    posts=("/v1/exchange/create-payment",),
)
