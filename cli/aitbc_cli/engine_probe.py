"""Asks two llama.cpp servers how likely tokens are: one while it decodes, the other by a prefill over them."""

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aitbc_cli.exits import UNAVAILABLE, USAGE, Stop

TOKENS = 24
"""How many tokens are decoded for each prompt."""
CHECKED = (0, 5, 11, 17, 23)
"""At which of them the other server is asked."""
TOLD = 64
"""How many of the likeliest tokens the other server tells; one that is not among them is less likely than the last."""
ANSWER_SECONDS = 120.0
ANSWER_BYTES_MAX = 4 * 1024 * 1024
PROMPTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "In the year 1969, the first people",
    "The three primary colours are",
    "Once upon a time there was a",
    "SELECT name, price FROM products WHERE",
    "The most important rule of writing is",
    "To make bread you need flour,",
    "A prime number is a number that",
    "The train leaves the station at",
    "Dear Sir or Madam,\n\nI am writing to",
)


@dataclass(frozen=True)
class Decoded:
    """What a server made of a prompt, by the numbers of its tokens, and how likely it said each was."""

    prompt: list[int]
    tokens: list[int]
    likelihoods: list[float]


class Engine:
    """A llama.cpp server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.username or parts.query:
            raise Stop(
                f"{url!r} is no URL of an engine, such as http://127.0.0.1:8080", exit_code=USAGE, code="bad_usage"
            )
        self.url, self._host, self._port = url.rstrip("/"), parts.hostname, parts.port or 80
        self._path = parts.path.rstrip("/")
        self.model = ""

    def decode(self, prompt: str) -> Decoded:
        """Let it go on with a prompt, greedily."""
        tokens = self._post("/tokenize", {"content": prompt, "add_special": True})["tokens"]
        answer = self._complete(tokens, TOKENS, told=1)
        self.model = str(answer.get("model", ""))
        said = answer["completion_probabilities"]
        return Decoded(tokens, [one["id"] for one in said], [float(one["logprob"]) for one in said])

    def likelihood(self, before: Sequence[int], token: int) -> float:
        """How likely it finds a token behind others, by a prefill over those."""
        told = self._complete(list(before), 1, told=TOLD)["completion_probabilities"][0]["top_logprobs"]
        found = {one["id"]: float(one["logprob"]) for one in told}
        return found.get(token, min(found.values()))

    def _complete(self, tokens: list[int], wanted: int, *, told: int) -> Any:
        body = {"prompt": tokens, "n_predict": wanted, "temperature": 0, "n_probs": told, "cache_prompt": False}
        return self._post("/completion", body)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_SECONDS)
        try:
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request("POST", self._path + path, json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read(ANSWER_BYTES_MAX)
            if response.status != http.client.OK:
                raise self._stop(f"answered {response.status} to {path}")
            return json.loads(content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._stop(f"gave no answer to {path} that can be read: {error}") from None
        finally:
            connection.close()

    def _stop(self, what: str) -> Stop:
        return Stop(f"the engine at {self.url} {what}", exit_code=UNAVAILABLE, code="engine_unusable")


def differences(decodes: Engine, checks: Engine, prompts: Sequence[str]) -> list[list[float]]:
    """By prompt, how far the likelihoods of the checked tokens lie apart, in natural logarithms."""
    found = []
    for prompt in prompts:
        try:
            decoded = decodes.decode(prompt)
            found.append([_difference(checks, decoded, at) for at in CHECKED if at < len(decoded.tokens)])
        except (KeyError, TypeError, IndexError) as error:
            raise Stop(
                f"the engines do not tell likelihoods as llama.cpp's server does ({type(error).__name__}: {error})",
                exit_code=UNAVAILABLE,
                code="engine_unusable",
            ) from None
    return found


def _difference(checks: Engine, decoded: Decoded, at: int) -> float:
    told = checks.likelihood([*decoded.prompt, *decoded.tokens[:at]], decoded.tokens[at])
    return abs(told - decoded.likelihoods[at])
