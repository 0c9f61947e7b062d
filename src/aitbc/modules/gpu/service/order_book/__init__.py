"""The order book of the GPU market: offers and bids that are placed, accepted, matched and cancelled, each once.

It shares nothing with the miners, listings and bookings of gpu but the price of an hour, so that it can become a
module of its own.
"""
