"""What a chat server says of its models beside their names: how long a conversation may be, what they take, and which
weights they have. What a server does not say is left out, and never guessed.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

PIN = "@sha256:"
"""What stands in an announced name between the model and the beginning of its weights' digest."""
PIN_DIGITS = 12
FACTS_MAX = 24
"""Of how many models the server takes facts from a miner."""
_CONTEXTS = ("max_model_len", "context_length", "max_context_length")
"""Where servers say in their list how many tokens a conversation may have."""
_CONTEXT_MAX = 2**31 - 1
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})\Z")
_QUANTIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,23}\Z")
LLAMA_CPP, OLLAMA = "llamacpp", "library"
"""Who owns the models, as these two servers have it."""

Facts = dict[str, Any]
Ask = Callable[[str, Mapping[str, Any] | None], Mapping[str, Any]]
"""Asks the server for a path beside `/v1`, with a body or without; what is no object is an empty one."""


def pinned(name: str, digest: str) -> str:
    """The name of exactly these weights."""
    return f"{name}{PIN}{digest[:PIN_DIGITS]}"


def facts_of(listed: Any, ask: Ask) -> dict[str, Facts]:
    """By the names of a server's list: `context`, `modalities`, `quantization` and `digest`, as far as it says."""
    entries = [one for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)][:FACTS_MAX]
    found = {one["id"]: _of_entry(one) for one in entries}
    owners = {one.get("owned_by") for one in entries}
    if LLAMA_CPP in owners and len(entries) == 1:
        found[entries[0]["id"]] |= _of_props(ask("/props", None))
    if OLLAMA in owners:
        for one in _list(ask("/api/tags", None).get("models")):
            if isinstance(one, dict) and one.get("name") in found:
                found[one["name"]] |= _of_tag(one) | _of_show(ask("/api/show", {"model": one["name"]}))
    return {name: facts for name, facts in found.items() if facts}


def announced(facts: Mapping[str, Facts]) -> dict[str, Facts]:
    """Facts in the form and number in which they are announced; a digest is told by a name of its own."""
    found = {name: {key: value for key, value in known.items() if key != "digest"} for name, known in facts.items()}
    return dict([(name, known) for name, known in sorted(found.items()) if known][:FACTS_MAX])


def _of_entry(entry: Mapping[str, Any]) -> Facts:
    """What stands in the list itself: newer servers of llama.cpp have all of it there."""
    facts = next((facts for name in _CONTEXTS if (facts := _context(entry.get(name)))), {})
    meta, architecture = _object(entry.get("meta")), _object(entry.get("architecture"))
    facts |= _context(meta.get("n_ctx")) | _stored(_short(meta.get("ftype")))
    takes = [word for word in _list(architecture.get("input_modalities")) if word in ("text", "image", "audio")]
    return facts | ({"modalities": takes} if takes else {})


def _of_props(props: Mapping[str, Any]) -> Facts:
    """What llama.cpp's server says: the context is that of a slot, which is less than the model could have."""
    settings = props.get("default_generation_settings")
    facts = _context(settings.get("n_ctx")) if isinstance(settings, dict) else {}
    takes = props.get("modalities")
    if isinstance(takes, dict):
        more = {"vision": "image", "audio": "audio"}
        facts["modalities"] = ["text", *(ours for theirs, ours in more.items() if takes.get(theirs) is True)]
    return facts


def _of_tag(tag: Mapping[str, Any]) -> Facts:
    """What Ollama lists: its digest is that of the manifest, which names the weights and all that goes with them."""
    facts: Facts = {}
    if (digest := digest_in(tag.get("digest"))) is not None:
        facts["digest"] = digest
    return facts | _stored(_object(tag.get("details")).get("quantization_level"))


def _of_show(shown: Mapping[str, Any]) -> Facts:
    """What Ollama says that a model can do; how much of the context it gives to a chat it does not say."""
    able = shown.get("capabilities")
    if not isinstance(able, list) or "completion" not in able:
        return {}
    return {"modalities": ["text", *(["image"] if "vision" in able else [])]}


def digest_in(value: Any) -> str | None:
    """The digits of a digest; none for what is none."""
    found = _DIGEST.match(value) if isinstance(value, str) else None
    return found[1] if found is not None else None


def _context(value: Any) -> Facts:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return {"context": value} if is_number and 0 < value <= _CONTEXT_MAX else {}


def _stored(value: Any) -> Facts:
    return {"quantization": value} if isinstance(value, str) and _QUANTIZATION.match(value) else {}


def _short(ftype: Any) -> str | None:
    """`Q4_K - Medium` as everybody else writes it: `Q4_K_M`."""
    if not isinstance(ftype, str):
        return None
    name, dash, size = ftype.partition(" - ")
    return f"{name}_{size[:1]}" if dash else name


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
