"""What is killed at random, and what must hold afterwards."""
