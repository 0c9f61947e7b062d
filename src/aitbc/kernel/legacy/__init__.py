"""What every module needs to answer the legacy dialect; a module adds its shapes, its tables and its paths."""
