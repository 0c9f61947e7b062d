"""The closed sets of the exchange."""

from aitbc.kernel.primitives.matching import NOT_FILLED, SELF_TRADE, TOO_MANY, WOULD_TAKE

SIDES = ("buy", "sell")
ORDER_KINDS = ("limit", "market")
ORDER_STATES = ("open", "filled", "canceled")
PAIR_STATES = ("open", "halted")
MAKER_STATES = ("stopped", "running")
MAKER_REASONS = ("no_price", "no_funds", "halted")
"""Why a market maker that runs quotes nothing."""
ORDER_REASONS = (WOULD_TAKE, NOT_FILLED, SELF_TRADE, TOO_MANY, "momentary", "canceled")
