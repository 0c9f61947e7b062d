"""Bids and requests for the time of miners: placed, matched with offers, and turned into bookings."""
