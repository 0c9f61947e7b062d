"""The order book in the legacy dialect: offers and bids at `/v1/transactions`."""
