"""Governance: stake gives power, power decides proposals, and what is decided changes the running system."""
