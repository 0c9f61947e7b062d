"""Backup, restore, upgrade, database commands."""
