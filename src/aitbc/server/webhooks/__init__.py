"""Webhooks: endpoints, fan-out, signed delivery."""
