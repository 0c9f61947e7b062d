"""Orders that older clients post: offers and bids about GPUs that nobody enrolled here."""
