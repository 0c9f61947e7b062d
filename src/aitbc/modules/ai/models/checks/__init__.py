"""The rules by which work is verified: tiers, agreement, verdicts and how often is sampled; pure."""
