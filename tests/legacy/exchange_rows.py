"""What the existing command line asks of an exchange, of market makers and of other chains, all refused."""

from collections.abc import Mapping

ASSET, BITCOIN, CHAIN = "one asset", "no node of Bitcoin", "one chain"
C, M = "coordinator", "marketplace"
Refusal = tuple[str, str, str, str, str]
"""The command, where it asks, how, what, and a word of the reason."""

EXCHANGE: Mapping[str, Refusal] = {
    "K40 K41": ("cross-chain rates", M, "GET", "/api/v1/cross-chain/rates", CHAIN),
    "K42 K43": ("cross-chain swap", M, "POST", "/api/v1/cross-chain/swap", CHAIN),
    "K44": ("cross-chain status", M, "GET", "/api/v1/cross-chain/swap/s", CHAIN),
    "K45": ("cross-chain swaps", M, "GET", "/api/v1/cross-chain/swaps", CHAIN),
    "K46": ("cross-chain bridge", M, "POST", "/api/v1/cross-chain/bridge", CHAIN),
    "K47": ("cross-chain bridge-status", M, "GET", "/api/v1/cross-chain/bridge/b", CHAIN),
    "K48": ("cross-chain pools", M, "GET", "/api/v1/cross-chain/pools", CHAIN),
    "K49": ("cross-chain stats", M, "GET", "/api/v1/cross-chain/stats", CHAIN),
    "O401, rates": ("exchange create-payment", C, "GET", "/v1/exchange/rates", ASSET),
    "O401": ("exchange create-payment", C, "POST", "/v1/exchange/create-payment", BITCOIN),
    "O402": ("exchange payment-status", C, "GET", "/v1/exchange/payment-status/p", BITCOIN),
    "O403": ("exchange market-stats", C, "GET", "/v1/exchange/market-stats", ASSET),
    "O404": ("exchange wallet balance", C, "GET", "/exchange/wallet/balance", BITCOIN),
    "O405": ("exchange wallet info", C, "GET", "/exchange/wallet/info", BITCOIN),
    "O406": ("exchange register", C, "POST", "/v1/exchange/register", ASSET),
    "O407": ("exchange create-pair", C, "POST", "/v1/exchange/create-pair", ASSET),
    "O408": ("exchange start-trading", C, "POST", "/v1/exchange/start-trading", ASSET),
    "O409": ("exchange list-pairs", C, "GET", "/v1/exchange/pairs", ASSET),
    "O421, rates": ("exchange create-payment", M, "GET", "/api/v1/exchange/rates", ASSET),
    "O421": ("exchange create-payment", M, "POST", "/api/v1/exchange/create-payment", BITCOIN),
    "O422": ("exchange payment-status", M, "GET", "/api/v1/exchange/payment-status/p", BITCOIN),
    "O423": ("exchange market-stats", M, "GET", "/api/v1/exchange/market-stats", ASSET),
    "O424": ("exchange wallet balance", M, "GET", "/api/v1/exchange/wallet/balance", BITCOIN),
    "O425": ("exchange wallet info", M, "GET", "/api/v1/exchange/wallet/info", BITCOIN),
    "O426": ("exchange register", M, "POST", "/api/v1/exchange/register", ASSET),
    "O427": ("exchange create-pair", M, "POST", "/api/v1/exchange/create-pair", ASSET),
    "O428": ("exchange start-trading", M, "POST", "/api/v1/exchange/start-trading", ASSET),
    "O429": ("exchange list-pairs", M, "GET", "/api/v1/exchange/pairs", ASSET),
    "O601": ("market-maker create", C, "POST", "/api/v1/market-maker/create", ASSET),
    "O602": ("market-maker config", C, "POST", "/api/v1/market-maker/config/b", ASSET),
    "O603": ("market-maker start", C, "POST", "/api/v1/market-maker/start/b", ASSET),
    "O604": ("market-maker status", C, "GET", "/api/v1/market-maker/status/b", ASSET),
    "O605": ("market-maker performance", C, "GET", "/api/v1/market-maker/performance", ASSET),
    "O606": ("market-maker list", C, "GET", "/api/v1/market-maker/list", ASSET),
    "O607": ("market-maker history", C, "GET", "/api/v1/market-maker/history/b", ASSET),
    "O608": ("market-maker strategies", C, "GET", "/api/v1/market-maker/strategies", ASSET),
    "O609": ("market-maker stop", C, "POST", "/api/v1/market-maker/stop/b", ASSET),
}
REASONS = {
    ASSET: "the ledger has one asset",
    BITCOIN: "no node of Bitcoin stands behind the platform",
    CHAIN: "there is one chain",
}
