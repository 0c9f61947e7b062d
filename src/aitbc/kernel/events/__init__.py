"""Delivery of events from the outboxes to their handlers, and wake-ups between processes."""
