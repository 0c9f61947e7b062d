"""Settings, listeners, and which process serves what."""
