"""The grammar of a search: `field op value`, combined with and, or, not and parentheses."""
