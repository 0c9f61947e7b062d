"""The tables of ai, the life of a job, how jobs queue, and what kinds of work there are."""
