"""Poison: every operation that the API describes, asked with everything that a hostile or broken caller might send."""
