"""What a test of a protocol has at hand: a server, an engine, miners, money, and the official clients."""

from pathlib import Path
from typing import Any

import anthropic
import openai

from tests.chaos.server_process import ServerProcess
from tests.cli.miner.test_daemon import Market
from tests.modules.ai.protocols.scripted_engine import MODEL, ScriptedEngine

SECONDS = 60.0


class Bench:
    """A market whose miners ask a scripted engine."""

    def __init__(
        self, server: ServerProcess, folder: Path, *, engine_url: str | None = None, embeds: bool = False
    ) -> None:
        """`engine_url` is of a real engine, in the place of the scripted one; with `embeds` miners load a model of texts too."""
        self.server = server
        self.engine = ScriptedEngine()
        self._embeds = embeds
        self._engine_url = engine_url or self.engine.url
        self.market = Market(server, folder)
        self.key = self.market.key
        self._clients: list[Any] = []

    def begin(self, model: str = MODEL) -> None:
        """Start a miner and wait until its models are listed."""
        self.start_miner()
        self.market.until(lambda: any(one.id == model for one in self.openai().models.list()), SECONDS)

    def start_miner(self, name: str = "rig", **options: Any) -> Any:
        """A miner of the engine's model, and of embeddings where they are wanted."""
        kinds = {"chat": {"base_url": self._engine_url}} | ({"embed": {}, "rerank": {}} if self._embeds else {})
        return self.market.start(name, **{"token": self.market.token(), "kinds": kinds, "slots": 8, **options})

    def openai(self, **options: Any) -> Any:
        """OpenAI's client, as anybody makes it."""
        told = {"base_url": f"{self.server.url}/v1", "api_key": self.key, "timeout": SECONDS, "max_retries": 0}
        client = openai.OpenAI(**{**told, **options})
        self._clients.append(client)
        return client

    def anthropic(self, **options: Any) -> Any:
        """Anthropic's client, as anybody makes it."""
        told = {"base_url": self.server.url, "auth_token": self.key, "timeout": SECONDS, "max_retries": 0}
        client = anthropic.Anthropic(**{**told, **options})
        self._clients.append(client)
        return client

    def money(self) -> tuple[str, str]:
        """What the account has free, and what of it is held for work that goes on."""
        own = self.market.ask("/api/v1/identity/keys/self")["account"]
        account = self.market.ask(f"/api/v1/trading/accounts/{own}")
        return account["available"], account["held"]

    def close(self) -> None:
        """End the miners and the engine."""
        for client in self._clients:
            client.close()
        self.market.close()
        self.engine.shutdown()
        self.engine.server_close()


def ask(words: str, **more: Any) -> dict[str, Any]:
    """The arguments of a request with one message."""
    return {"model": MODEL, "messages": [{"role": "user", "content": words}], **more}
