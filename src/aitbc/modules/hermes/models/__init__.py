"""What hermes keeps, and the rules that need only that."""
