"""HTTP handling that every module shares: authentication, request parsing, error responses, client disconnects."""
