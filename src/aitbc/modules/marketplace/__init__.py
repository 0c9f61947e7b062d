"""Marketplace: what miners' owners have for sale, at which price, and how it is found."""
