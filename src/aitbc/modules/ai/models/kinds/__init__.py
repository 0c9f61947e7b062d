"""The kinds of work: what each takes and gives, how it is metered, what it costs, and its limits."""
