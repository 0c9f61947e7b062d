"""Graphs of jobs: begun, driven on from the ends of their jobs, shown and changed."""
