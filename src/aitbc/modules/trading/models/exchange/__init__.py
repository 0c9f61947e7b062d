"""The exchange: pairs, orders and trades, and the rules of its book."""
