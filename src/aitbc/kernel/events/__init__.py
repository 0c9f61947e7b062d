"""Delivery of events from outboxes to their handlers, and wake-ups between processes."""
