"""The legacy dialect of the trading module: the explorer as the service and the coordinator before had it."""
