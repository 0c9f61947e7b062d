"""What a miner can do: one executor a kind of work, each in worker processes of its own."""
