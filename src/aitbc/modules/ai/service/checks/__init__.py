"""Verification of work: answers to one job are compared, and those that agree are paid."""
