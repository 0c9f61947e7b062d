"""Trades between accounts: their tables, their states, and the rules of matching, negotiating and paying."""
