"""The HTTP of trading: money on one side, the chain and its explorer on the other."""
