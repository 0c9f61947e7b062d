"""Studies: batches of trials that look for the best parameters; shapes, tables, and the rules that need only them."""
