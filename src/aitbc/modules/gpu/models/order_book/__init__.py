"""The order book of the GPU market: offers and bids, apart from miners, listings and bookings."""
