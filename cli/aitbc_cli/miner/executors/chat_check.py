"""Evaluates the answer of another miner: how likely the tokens of it are, by a prefill over prompt and answer.

It speaks the dialect of llama.cpp's server, which tells no likelihoods of a prompt: it is asked for one token behind
each checked place, and keeps what stands before that from one question to the next.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aitbc_cli.miner.executors.work import WorkFailed

TOLD = 64
"""How many of the likeliest tokens the server tells; one that is not among them is less likely than the last."""
TOKENS_MAX = 64
Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""Asks the server at a path of its own; nothing where it does not answer as it should."""


@dataclass(frozen=True)
class Evaluation:
    """What was found."""

    tokens: list[dict[str, Any]]
    """As the platform takes it: by the place of each token, its likelihood and that of the likeliest there."""
    apart: float
    """The mean of the differences from what was told, at least as the platform counts them."""


def evaluate(ask: Ask, messages: Any, check: Mapping[str, Any]) -> Evaluation:
    """Evaluate the checked tokens of an answer to some messages. Raises `WorkFailed` where the server cannot."""
    try:
        text, wanted = str(check["text"]), list(check["tokens"])[:TOKENS_MAX]
        prompt = ask("/apply-template", {"messages": messages})["prompt"]
        special = {"add_special": True, "parse_special": True}
        before = ask("/tokenize", {"content": prompt, **special})["tokens"]
        pieces = ask("/tokenize", {"content": text, "add_special": False, "with_pieces": True})["tokens"]
        places = _places_of(pieces, text.encode())
        numbers = [piece["id"] for piece in pieces]
        tokens, apart = [], []
        for one in wanted:
            at = places.get((one["start"], one["end"]))
            if at is None:
                tokens.append({"start": one["start"]})
                apart.append(1.0)
                continue
            likelihood, most = _likelihoods(ask, before + numbers[:at], numbers[at])
            tokens.append({"start": one["start"], "likelihood": likelihood, "most": most})
            apart.append(max(abs(one["likelihood"] - likelihood), most - likelihood))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        message = f"The chat server cannot tell how likely an answer is ({type(error).__name__}: {error})."
        raise WorkFailed("platform", "unsupported_input", message) from None
    return Evaluation(tokens, statistics.fmean(apart) if apart else 0.0)


def _places_of(pieces: Sequence[Mapping[str, Any]], text: bytes) -> dict[tuple[int, int], int]:
    """By the bytes of the text that a token has, its number; some tokenizers put a blank before the first."""
    whole = [_bytes_of(piece["piece"]) for piece in pieces]
    at = len(text) - sum(map(len, whole))
    places = {}
    for number, piece in enumerate(whole):
        places[at, at + len(piece)] = number
        at += len(piece)
    return places


def _bytes_of(piece: Any) -> bytes:
    """A token's text, told as bytes where it is half a character."""
    return bytes(piece) if isinstance(piece, list) else str(piece).encode()


def _likelihoods(ask: Ask, before: list[int], token: int) -> tuple[float, float]:
    body = {"prompt": before, "n_predict": 1, "temperature": 0, "n_probs": TOLD, "cache_prompt": True}
    told = ask("/completion", body)["completion_probabilities"][0]["top_logprobs"]
    found = {one["id"]: min(float(one["logprob"]), 0.0) for one in told}
    return round(found.get(token, min(found.values())), 5), round(max(found.values()), 5)
