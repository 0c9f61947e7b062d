"""The miner daemon: leases work, runs it in worker processes, and delivers signed results."""
