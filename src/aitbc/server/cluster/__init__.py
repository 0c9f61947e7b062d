"""The processes of one installation among each other: peers, gateway, proxies, NATS."""
