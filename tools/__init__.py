"""What developers run in a checkout; not part of the product."""
