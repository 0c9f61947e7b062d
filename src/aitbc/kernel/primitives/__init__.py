"""Values and functions that everything may use: errors, ids, money, time, text, JSON, pagination."""
