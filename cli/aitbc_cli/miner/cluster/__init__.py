"""A cluster as one miner: jobs of the marketplace become jobs of the cluster."""
