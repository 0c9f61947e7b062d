"""The models of a chat server: what it lists, under which names they are announced, and which of them answered."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aitbc_cli.miner.executors.fields import FieldError, read_list, read_text
from aitbc_cli.miner.executors.model_facts import PIN, Facts, announced, pinned
from aitbc_cli.miner.executors.work import WorkFailed

MODELS_MAX = 64
"""How many models of a kind the server takes from a miner."""
WITHHELD_SECONDS = 300.0
"""How long a model is left out that the chat server lists and yet does not have."""
LATEST = ":latest"
"""The tag that Ollama lists and leaves out of its answers."""
_ANNOUNCEABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/@+()-]{0,99}\Z")
_PATH = re.compile(r"[/~.]|[A-Za-z]:[\\/]|.*\\|.*\.gguf\Z")
"""Servers name a model that was loaded from a file by its path, which is nobody's affair."""


class ChatModels:
    """Announced names, each with the chat server's own name of the model.

    `stated` are the owner's words: `MODEL` as the server lists it, or `NAME=MODEL` for a model that is announced under
    another name. Without any, all that the server lists are announced.
    """

    def __init__(self, stated: Any) -> None:
        self._stated: dict[str, str] = {}
        for word in read_list(stated, "models", fewest=0, most=MODELS_MAX):
            name, _, model = read_text(word, "models", shortest=1, longest=300).partition("=")
            if not _ANNOUNCEABLE.match(name.strip()):
                raise FieldError(f"models: {name[:100]!r} cannot be announced; state another name, as in llama=MODEL.")
            self._stated[name.strip()] = model.strip() or name.strip()
        self._models = dict(self._stated)
        self._pins: dict[str, str] = {}
        """Names of exact weights, each with the server's name of the model that has them now."""
        self.facts: dict[str, Facts] = {}
        """What is known of announced models, to be announced with them."""
        self._withheld: dict[str, float] = {}
        self.missing: list[str] = []
        """What the owner stated and the server does not list."""

    def learn(self, listed: Sequence[str] | None, facts: Mapping[str, Facts] | None = None) -> None:
        """Take over what the server lists now, and says of it; none from one that has no list. Raises `NoModels`."""
        self._pins, self.facts = {}, {}
        if listed is None:
            self._models, self.missing = dict(self._stated), []
            return
        self._take(listed)
        known = {name: facts[model] for name, model in self._models.items() if facts and model in facts}
        for name, said in known.items():
            name_of_it = pinned(name, str(said.get("digest")))
            if "digest" in said and _ANNOUNCEABLE.match(name_of_it):
                self._pins[name_of_it] = self._models[name]
        self.facts = announced({**known, **{pin: known[pin.partition(PIN)[0]] for pin in self._pins}})

    def _take(self, listed: Sequence[str]) -> None:
        have = set(listed)
        known = {name: _listed_as(model, have) for name, model in self._stated.items()}
        self.missing = sorted(name for name, model in known.items() if model is None)
        found = {name: model for name, model in known.items() if model is not None}
        self._models = found if self._stated else _announceable(listed)
        if not self._models:
            listing = ", ".join(map(public_name, listed[:5])) or "none"
            wanted = f"It has none of {', '.join(self.missing)}" if self._stated else "It has no model"
            raise NoModels("miner", "executor_unavailable", f"{wanted}; the chat server lists: {listing}.")

    @property
    def names(self) -> list[str]:
        """The names to announce, the owner's first one or the server's first one first."""
        return [*self._models, *self._pins][:MODELS_MAX]

    def withhold(self, name: str) -> None:
        """Choose another one for a time: the server lists this model and does not have it."""
        self._withheld[name] = time.monotonic() + WITHHELD_SECONDS

    def choose(self, wanted: str | None) -> str | None:
        """The announced name to work with: the one that is wanted, else the first. Raises `WorkFailed`."""
        if wanted is None:
            there = (name for name in self._models if self._withheld.get(name, 0.0) <= time.monotonic())
            return next(there, next(iter(self._models), None))
        if wanted not in self._models and wanted not in self._pins:
            raise unavailable(wanted)
        return wanted

    def upstream(self, name: str) -> str:
        """What the chat server calls a model."""
        return self._pins.get(name) or self._models[name]

    def require_answer_of(self, name: str | None, answered: Any) -> None:
        """Refuse an answer that another model made. Raises `WorkFailed`."""
        if name is None or not isinstance(answered, str) or not answered or answered == name:
            return
        model = self._pins.get(name) or self._models.get(name, name)
        if public_name(answered).removesuffix(LATEST) != public_name(model).removesuffix(LATEST):
            message = (
                f"The chat server was asked for {public_name(model)!r} and answered with {public_name(answered)!r}; "
                f"if they are one model, state so: --chat-model '{name}={public_name(answered)}'."
            )
            raise WorkFailed("miner", "wrong_model", message)


class NoModels(WorkFailed):
    """The server has none of the models that this miner could do work with."""


def public_name(model: str) -> str:
    """A model's name without the folders of the machine that it lies on."""
    return re.split(r"[\\/]", model.rstrip("\\/"))[-1] if _PATH.match(model) else model


def unavailable(model: str | None) -> WorkFailed:
    """Nobody's fault: this miner does not have the model, or no longer."""
    return WorkFailed("platform", "model_unavailable", f"This miner does not have the model {model!r} now.")


def _announceable(listed: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for model in listed:
        name = public_name(model)
        if len(found) < MODELS_MAX and _ANNOUNCEABLE.match(name):
            found.setdefault(name, model)
    return found


def _listed_as(model: str, listed: set[str]) -> str | None:
    for candidate in (model, model + LATEST):
        if candidate in listed:
            return candidate
    return next((one for one in sorted(listed) if public_name(one) == model), None)
