"""Stories told end to end."""
