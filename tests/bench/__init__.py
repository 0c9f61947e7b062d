"""What the platform costs: `make bench` measures it, prints a table and writes build/bench.json."""
