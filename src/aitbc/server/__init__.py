"""What runs a process: configuration, embedded database, ASGI, peers, webhooks, runtime. Modules never import it."""
