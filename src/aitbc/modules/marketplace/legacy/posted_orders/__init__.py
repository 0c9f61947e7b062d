"""Posted orders in the legacy dialect: the `/v1/transactions` of the older GPU service."""
