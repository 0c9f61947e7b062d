"""Batched commands: many callers' submissions, claims, renewals and results, each batch in one transaction."""
