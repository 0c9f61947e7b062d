"""Trading: the ledger, receipts, blocks and their explorer; the only place where money moves."""
