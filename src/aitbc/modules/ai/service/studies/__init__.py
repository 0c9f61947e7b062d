"""Studies as they are created, driven and shown; the sampling is optuna's."""
