"""Containers of requesters: what runs them, and under which limits."""
