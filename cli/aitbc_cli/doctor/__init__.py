"""The doctor: one look at everything that an installation stands on, and for each fault what to type against it."""
