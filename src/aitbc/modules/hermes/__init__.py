"""Hermes: agents that others can call at a price, their durable runs, and the A2A protocol."""
