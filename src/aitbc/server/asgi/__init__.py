"""From the socket to the handler: boundary, access log, fast path, OpenAPI."""
