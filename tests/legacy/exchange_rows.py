"""What the existing command line asks of an exchange, of market makers and of other chains: what holds, what is refused."""

from collections.abc import Mapping
from typing import Any

BITCOIN, CHAIN, KEYS = "bitcoin_rpc_url", "one chain", "other exchanges"
C, M = "coordinator", "marketplace"
Asked = tuple[str, str, str, str, Any, str]
"""The command, where it asks, how, what (with `{bot}` in it), the body, and a field of the answer that it reads."""
Refusal = tuple[str, str, str, str, str]
"""The command, where it asks, how, what, and a word of the reason."""


def _pair(base: str) -> dict[str, Any]:
    return {
        "pair": f"{base}/AITBC",
        "base_asset": base,
        "quote_asset": "AITBC",
        "price_precision": 8,
        "size_precision": 8,
        "min_order_size": 0.01,
        "max_order_size": 1000.0,
    }


BOT = {
    "exchange": "aitbc",
    "pair": "GOLD/AITBC",
    "spread": 0.01,
    "depth": 5.0,
    "strategy": "simple",
    "status": "created",
}
EXCHANGED: Mapping[str, Asked] = {
    "O407": ("exchange create-pair", C, "POST", "/v1/exchange/create-pair", _pair("GOLD"), "pair_id"),
    "O408": ("exchange start-trading", C, "POST", "/v1/exchange/start-trading", {"pair": "GOLD/AITBC"}, "status"),
    "O409": ("exchange list-pairs", C, "GET", "/v1/exchange/pairs", None, "pairs"),
    "O403": ("exchange market-stats", C, "GET", "/v1/exchange/market-stats", None, "markets"),
    "O427": ("exchange create-pair", M, "POST", "/api/v1/exchange/create-pair", _pair("IRON"), "pair_id"),
    "O428": ("exchange start-trading", M, "POST", "/api/v1/exchange/start-trading", {"pair": "IRON/AITBC"}, "status"),
    "O429": ("exchange list-pairs", M, "GET", "/api/v1/exchange/pairs", None, "pairs"),
    "O423": ("exchange market-stats", M, "GET", "/api/v1/exchange/market-stats", None, "markets"),
    "O601": ("market-maker create", C, "POST", "/api/v1/market-maker/create", BOT, "bot_id"),
    "O602": ("market-maker config", C, "POST", "/api/v1/market-maker/config/{bot}", {"spread": 0.02}, "spread"),
    "O603": ("market-maker start", C, "POST", "/api/v1/market-maker/start/{bot}", {"dry_run": False}, "status"),
    "O604": ("market-maker status", C, "GET", "/api/v1/market-maker/status/{bot}", None, "open_orders"),
    "O605": ("market-maker performance", C, "GET", "/api/v1/market-maker/performance", None, "performance"),
    "O606": ("market-maker list", C, "GET", "/api/v1/market-maker/list", None, "bots"),
    "O607": ("market-maker history", C, "GET", "/api/v1/market-maker/history/{bot}?hours=24", None, "trades"),
    "O608": ("market-maker strategies", C, "GET", "/api/v1/market-maker/strategies", None, "strategies"),
    "O609": ("market-maker stop", C, "POST", "/api/v1/market-maker/stop/{bot}", None, "status"),
}
"""In this order, on an installation that has the assets GOLD and IRON; pairs are the operator's to make."""
EXCHANGE: Mapping[str, Refusal] = {
    "K40 K41": ("cross-chain rates", M, "GET", "/api/v1/cross-chain/rates", CHAIN),
    "K42 K43": ("cross-chain swap", M, "POST", "/api/v1/cross-chain/swap", CHAIN),
    "K44": ("cross-chain status", M, "GET", "/api/v1/cross-chain/swap/s", CHAIN),
    "K45": ("cross-chain swaps", M, "GET", "/api/v1/cross-chain/swaps", CHAIN),
    "K46": ("cross-chain bridge", M, "POST", "/api/v1/cross-chain/bridge", CHAIN),
    "K47": ("cross-chain bridge-status", M, "GET", "/api/v1/cross-chain/bridge/b", CHAIN),
    "K48": ("cross-chain pools", M, "GET", "/api/v1/cross-chain/pools", CHAIN),
    "K49": ("cross-chain stats", M, "GET", "/api/v1/cross-chain/stats", CHAIN),
    "O401, rates": ("exchange create-payment", C, "GET", "/v1/exchange/rates", BITCOIN),
    "O401": ("exchange create-payment", C, "POST", "/v1/exchange/create-payment", BITCOIN),
    "O402": ("exchange payment-status", C, "GET", "/v1/exchange/payment-status/p", BITCOIN),
    "O404": ("exchange wallet balance", C, "GET", "/exchange/wallet/balance", BITCOIN),
    "O405": ("exchange wallet info", C, "GET", "/exchange/wallet/info", BITCOIN),
    "O406": ("exchange register", C, "POST", "/v1/exchange/register", KEYS),
    "O421, rates": ("exchange create-payment", M, "GET", "/api/v1/exchange/rates", BITCOIN),
    "O421": ("exchange create-payment", M, "POST", "/api/v1/exchange/create-payment", BITCOIN),
    "O422": ("exchange payment-status", M, "GET", "/api/v1/exchange/payment-status/p", BITCOIN),
    "O424": ("exchange wallet balance", M, "GET", "/api/v1/exchange/wallet/balance", BITCOIN),
    "O425": ("exchange wallet info", M, "GET", "/api/v1/exchange/wallet/info", BITCOIN),
    "O426": ("exchange register", M, "POST", "/api/v1/exchange/register", KEYS),
}
REASONS = {
    BITCOIN: "no node of Bitcoin stands behind the platform",
    CHAIN: "there is one chain",
    KEYS: "keys of other exchanges are of no use here",
}
