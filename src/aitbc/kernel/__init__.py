"""What every module is built on; it knows no module."""
