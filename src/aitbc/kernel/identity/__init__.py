"""Accounts, API keys and principals."""
