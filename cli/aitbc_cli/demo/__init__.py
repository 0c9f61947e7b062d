"""The demonstration: real work sold, done, receipted and paid for on this machine, step by step before your eyes."""
