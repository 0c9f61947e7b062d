"""What every HTTP handler stands on: problems, guards, signatures, disconnects."""
