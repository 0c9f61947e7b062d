"""Trades: offers, requests, matches, negotiations, agreements, settlements, disputes, feedback, analytics."""
