"""GPU: the miners, what they have, whether they are there, and how work reaches them."""
