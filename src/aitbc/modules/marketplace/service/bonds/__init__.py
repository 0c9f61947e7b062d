"""Bonds of owners: asked for, kept, and taken with evidence."""
