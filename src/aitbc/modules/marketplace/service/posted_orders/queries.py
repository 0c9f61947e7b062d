"""The query that reads orders: what everybody may see, narrowed by what is asked for."""

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import aliased

from aitbc.kernel.database.model_names import is_named
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.marketplace.models.posted_orders import STILL_OPEN, PostedMatchRow, PostedOrderRow, Side
from aitbc.modules.marketplace.service.posted_orders.commands import OrderFilter

OrdersQuery = Select[PostedOrderRow, PostedMatchRow, PostedMatchRow]


def orders_query(who: Principal, filters: OrderFilter) -> OrdersQuery:
    """Orders that the caller may see, each with the match that it is in: as the offer of it or as the bid."""
    order, as_offer, as_bid = PostedOrderRow, aliased(PostedMatchRow), aliased(PostedMatchRow)
    query = (
        select(order, as_offer, as_bid)
        .outerjoin(as_offer, as_offer.offer == order.id)
        .outerjoin(as_bid, as_bid.bid == order.id)
        .order_by(order.created_at.desc(), order.id.desc())
        .limit(filters.limit)
    )
    if not who.is_admin:
        mine = or_(order.account == who.account, order.partner == who.account)
        query = query.where(or_(order.state.in_(sorted(STILL_OPEN)), mine))
    for value, column in ((filters.id, order.id), (filters.side, order.side), (filters.island, order.island)):
        if value is not None:
            query = query.where(column == value)
    if filters.states is not None:
        query = query.where(order.state.in_(sorted(filters.states)))
    if filters.provider is not None:
        offers = and_(order.side == Side.OFFER, order.node == filters.provider)
        query = query.where(or_(offers, and_(order.side == Side.BID, order.partner_node == filters.provider)))
    if filters.model is not None:
        query = query.where(is_named(order.model, filters.model))
    if filters.region is not None:
        query = query.where(func.lower(order.region) == filters.region.lower())
    if filters.price_max_units is not None:
        query = query.where(order.price_units <= filters.price_max_units)
    return query
