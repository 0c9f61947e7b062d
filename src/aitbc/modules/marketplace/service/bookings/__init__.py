"""Bookings of offers: made, kept going, paid and ended."""
