"""Trade between agents in the legacy dialect: the same trades as at `/api/v1/trading`, by the names of that dialect."""

from typing import Any

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody, QueryParams

from aitbc.kernel.legacy.caller import Once, Who
from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.not_done import not_done
from aitbc.kernel.legacy.paging import read_query
from aitbc.kernel.primitives import ids
from aitbc.modules.trading.legacy.caller import Trading
from aitbc.modules.trading.legacy.trade_shapes import (
    AgreementAction,
    AgreementBody,
    LegacyAgentSummary,
    MatchAction,
    MatchBody,
    NegotiationBody,
    RequestAction,
    RequestBody,
    SettlementAction,
    SettlementBody,
    TradeDone,
    TradeQuery,
    agreement_shape,
    check_total,
    match_shape,
    negotiation_shape,
    number,
    preview_shape,
    request_shape,
    settlement_shape,
    summary_shape,
    transaction_of,
)
from aitbc.modules.trading.models.trades.views import TradeAgreement, TradeMatch, TradeSettlement
from aitbc.modules.trading.service import TradingService
from aitbc.modules.trading.service.trades.analytics import PERIODS
from aitbc.modules.trading.service.trades.commands import TradeFilter, TradeMatchNotFound, TradeTerms

LOOK, ACT = {"permission": "trades:read"}, {"permission": "trades:write"}
Body = RequestAction | MatchAction | AgreementAction | SettlementAction


class LegacyTrades(Controller):
    """Requests, matches, negotiations and agreements."""

    path = "/v1/trading"

    @get("/requests", opt=LOOK)
    async def requests(self, trading: Trading, who: Who, query: QueryParams) -> list[dict[str, Any]]:
        """The caller's requests, the newest first."""
        wish = read_query(query, TradeQuery)
        return [request_shape(one) for one in await trading.trade_requests.page(who, _wanted(wish, requests=True))]

    @get("/requests/{id:str}", opt=LOOK)
    async def request_of(self, trading: Trading, who: Who, id: FromPath[str]) -> dict[str, Any]:  # noqa: A002
        """A request of the caller's."""
        return request_shape(await trading.trade_requests.one(who, id))

    @post("/requests", status_code=201, opt=ACT)
    async def ask(self, trading: Trading, who: Who, once: Once, data: JSONBody[RequestBody]) -> dict[str, Any]:
        """Ask for something; the same again under its id is harmless."""
        return request_shape(await trading.trade_requests.place(who, data.command(), once))

    @get("/requests/{id:str}/matches", opt=LOOK)
    async def matches_of(self, trading: Trading, who: Who, id: FromPath[str]) -> list[dict[str, Any]]:  # noqa: A002
        """What fits a request of the caller's, the best first."""
        return [match_shape(one) for one in (await trading.trade_matches.valid(who, id)).data]

    @post("/requests/{id:str}/matches", status_code=200, opt=ACT)
    async def find(self, trading: Trading, who: Who, once: Once, id: FromPath[str]) -> list[str]:  # noqa: A002
        """Find the sellers whose offers fit a request, the best first."""
        return [one.seller for one in (await trading.trade_matches.find(who, id, once)).data]

    @get("/matches", opt=LOOK)
    async def matches(self, trading: Trading, who: Who, query: QueryParams) -> list[dict[str, Any]]:
        """The caller's matches, the newest first."""
        wish = read_query(query, TradeQuery)
        return [match_shape(one) for one in await trading.trade_matches.page(who, _wanted(wish))]

    @get("/matches/{id:str}", opt=LOOK)
    async def match_of(self, trading: Trading, who: Who, id: FromPath[str]) -> dict[str, Any]:  # noqa: A002
        """A match of the caller's."""
        return match_shape(await trading.trade_matches.one(who, id))

    @post("/simulate-match", status_code=200, opt=LOOK | {"idempotency": "natural"})
    async def simulate(self, trading: Trading, who: Who, data: JSONBody[RequestBody]) -> dict[str, Any]:
        """What a request would be matched with now; nothing is kept."""
        found = await trading.trade_matches.preview(who, data.command())
        scores = [one.score for one in found.data]
        return {
            "simulation": True,
            "request_details": data,
            "available_sellers": len({one.seller for one in found.data}),
            "matches_found": found.fitting,
            "best_matches": [preview_shape(one) for one in found.data],
            "average_match_score": round(sum(scores) / len(scores), 2) if scores else None,
        }

    @post("/matches", status_code=201, opt=ACT)
    async def match(self, trading: Trading, who: Who, once: Once, data: JSONBody[MatchBody]) -> dict[str, Any]:
        """Match a request of the caller's with the offers of a seller."""
        return match_shape(await _match(trading, who, once, data))

    @get("/negotiations", opt=LOOK)
    async def negotiations(self, trading: Trading, who: Who, query: QueryParams) -> list[dict[str, Any]]:
        """The caller's negotiations, the newest first."""
        wish = read_query(query, TradeQuery)
        return [negotiation_shape(one) for one in await trading.trade_negotiations.page(who, _wanted(wish))]

    @get("/negotiations/{id:str}", opt=LOOK)
    async def negotiation_of(self, trading: Trading, who: Who, id: FromPath[str]) -> dict[str, Any]:  # noqa: A002
        """A negotiation of the caller's."""
        return negotiation_shape(await trading.trade_negotiations.one(who, id))

    @post("/negotiations", status_code=201, opt=ACT)
    async def negotiate(
        self, trading: Trading, who: Who, once: Once, data: JSONBody[NegotiationBody]
    ) -> dict[str, Any]:
        """Begin to negotiate a match, at the mean of budget and offer."""
        begun = await trading.trade_negotiations.start(who, data.match_id, data.strategy, TradeTerms(), None, once)
        return negotiation_shape(begun)

    @get("/agreements", opt=LOOK)
    async def agreements(self, trading: Trading, who: Who, query: QueryParams) -> list[dict[str, Any]]:
        """The caller's agreements, the newest first."""
        wish = read_query(query, TradeQuery)
        return [agreement_shape(one) for one in await trading.trade_agreements.page(who, _wanted(wish))]

    @get("/agreements/{id:str}", opt=LOOK)
    async def agreement_of(self, trading: Trading, who: Who, id: FromPath[str]) -> dict[str, Any]:  # noqa: A002
        """An agreement of the caller's."""
        return agreement_shape(await trading.trade_agreements.one(who, id))

    @post("/agreements", status_code=201, opt=ACT)
    async def agree(self, trading: Trading, who: Who, once: Once, data: JSONBody[AgreementBody]) -> dict[str, Any]:
        """Accept a match of the caller's request, or the price that the other side named."""
        return agreement_shape(await _agree(trading, who, once, data))

    @get("/analytics", opt=LOOK)
    async def analytics(self, trading: Trading, query: QueryParams) -> dict[str, Any]:
        """The figures of the period that goes on."""
        period = query.get("period_type") or "daily"
        if period not in PERIODS:
            raise invalid("?period_type", f"Expected one of {', '.join(PERIODS)}")
        found = await trading.trade_figures.of(period)
        return {
            "period_type": found.period,
            "period_start": found.since,
            "total_trades": found.total_trades,
            "completed_trades": found.completed_trades,
            "failed_trades": found.failed_trades,
            "cancelled_trades": found.cancelled_trades,
            "total_trade_volume": number(found.volume),
            "average_trade_value": number(found.average_value or "0"),
            "total_platform_fees": number(found.fees),
            "trade_type_distribution": found.by_type,
        }


class LegacyTradeTransactions(Controller):
    """All of a trade at one path."""

    path = "/v1/transactions"

    @post("/", status_code=200, opt=ACT)
    async def act(self, trading: Trading, who: Who, once: Once, data: JSONBody[Body]) -> TradeDone:
        """Ask, match, agree or settle, as the action says."""
        match data:
            case RequestAction():
                made = (await trading.trade_requests.place(who, data.command(), once)).id
            case MatchAction():
                made = (await _match(trading, who, once, data)).id
            case AgreementAction():
                made = (await _agree(trading, who, once, data)).id
            case SettlementAction():
                settled = await _settle(trading, who, once, data)
                return TradeDone(status="success", transaction_id=settled.agreement, settlement_id=settled.id)
        return TradeDone(status="success", transaction_id=made)

    @get("/", opt=LOOK)
    async def transactions(self, trading: Trading, who: Who, query: QueryParams) -> list[dict[str, Any]]:
        """The caller's requests, matches, agreements and settlements, the newest first."""
        wish = read_query(query, TradeQuery)
        if wish.island_id is not None or wish.transaction_type not in (None, "trading"):
            return []
        found: list[dict[str, Any]] = []
        for action in ("request", "match", "agreement", "settlement") if wish.action is None else (wish.action,):
            found += await _lines(trading, who, action, wish)
        return sorted(found, key=lambda line: line["created_at"], reverse=True)[: wish.limit]


def _wanted(wish: TradeQuery, *, requests: bool = False) -> TradeFilter:
    """What a list is asked for; a buyer of a request is an account, or what it calls itself."""
    is_agent = requests and wish.buyer_agent_id is not None and not ids.is_id("acct", wish.buyer_agent_id)
    return TradeFilter(
        state=wish.status,
        trade_type=wish.trade_type if requests else None,
        buyer=None if is_agent else wish.buyer_agent_id,
        seller=None if requests else wish.seller_agent_id,
        agent=wish.buyer_agent_id if is_agent else None,
        limit=wish.limit,
    )


async def _match(trading: TradingService, who: Who, once: Once, data: MatchBody) -> TradeMatch:
    found = await trading.trade_matches.find(
        who, data.request_id, once, seller=data.seller_agent_id, name=data.match_id
    )
    fitting = [one for one in found.data if one.seller == data.seller_agent_id]
    named = [one for one in fitting if one.id == data.match_id]
    if not fitting:
        raise TradeMatchNotFound("No open offer of this seller fits this request well enough.")
    return (named or fitting)[0]


async def _agree(trading: TradingService, who: Who, once: Once, data: AgreementBody) -> TradeAgreement:
    if data.negotiation_id is not None:
        named = await trading.trade_negotiations.one(who, data.negotiation_id)
        check_total(data.total_price, named.price, "/total_price")
        return await trading.trade_negotiations.accept(who, data.negotiation_id, once, name=data.agreement_id)
    if data.match_id is None:
        raise invalid("/negotiation_id", "Expected a negotiation, or a match as `match_id`")
    match = await trading.trade_matches.one(who, data.match_id)
    check_total(data.total_price, match.price, "/total_price")
    return await trading.trade_matches.accept(who, data.match_id, data.terms(), once)


async def _settle(trading: TradingService, who: Who, once: Once, data: SettlementBody) -> TradeSettlement:
    agreed = await trading.trade_agreements.one(who, data.agreement_id)
    check_total(data.total_amount, agreed.price, "/total_amount")
    return await trading.trade_settlements.start(who, data.agreement_id, once, name=data.settlement_id)


async def _lines(trading: TradingService, who: Who, action: str, wish: TradeQuery) -> list[dict[str, Any]]:
    filters = _wanted(wish, requests=action == "request")
    match action:
        case "request":
            asked = await trading.trade_requests.page(who, filters)
            return [transaction_of(action, request_shape(one), one.created_at) for one in asked]
        case "match":
            matched = await trading.trade_matches.page(who, filters)
            return [transaction_of(action, match_shape(one), one.created_at) for one in matched]
        case "agreement":
            agreed = await trading.trade_agreements.page(who, filters)
            return [transaction_of(action, agreement_shape(one), one.signed_at) for one in agreed]
        case _:
            settled = await trading.trade_settlements.page(who, filters)
            return [transaction_of(action, settlement_shape(one), one.started_at) for one in settled]


class AgentSummaries(Controller):
    """What agents have traded."""

    @get("/v1/trading/agents/{agent:str}/summary", opt={"permission": "trades:read"})
    async def summary(self, trading: Trading, who: Who, agent: FromPath[str]) -> LegacyAgentSummary:
        """Sum up what an account, or an agent that buyers named in requests, has traded with the caller or for them."""
        return summary_shape(agent, await trading.trade_agents.of(who, agent))


StateDump = not_done(
    "This chain has no state dump; `aitbc chain export` gives all that is sealed.",
    read="chain:read",
    gets=("/v1/state/dump",),
)
