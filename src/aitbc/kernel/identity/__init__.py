"""Accounts, API keys and principals; the audit of refused requests."""
