"""GPU: the miners, what they have, whether they are there, and the road by which work reaches them."""
