"""What can be done at the exchange."""
