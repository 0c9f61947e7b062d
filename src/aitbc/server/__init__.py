"""What carries the process: configuration, database server, ASGI, cluster, webhooks, runtime; modules never import it."""
