"""Graphs: jobs that follow from each other, their rules, and what is kept of them."""
