"""Disputes about what was paid: begun, argued, decided, and their money moved."""
