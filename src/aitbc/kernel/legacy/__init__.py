"""What the modules share to answer the older dialect."""
