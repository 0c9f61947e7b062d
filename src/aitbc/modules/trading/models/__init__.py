"""The tables of trading and the rules of its ledger."""
