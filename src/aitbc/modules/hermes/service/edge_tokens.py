"""What callers of a deployment show at its edges: made from the secret of the installation, and kept nowhere."""

import hmac


class EdgeTokens:
    """Makes tokens."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of(self, deployment: str) -> str:
        """The token of a deployment."""
        return "edge_" + hmac.digest(self._secret, f"aitbc.hermes.edge:{deployment}".encode(), "sha256").hex()
