"""The work of an edge: the steps of a deployment, one after the other, in the worker processes of its miner."""

import asyncio
import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aitbc.kernel.primitives.templates import FilledTooLarge, fill, places_in, text_of_output
from aitbc_cli.miner.executors.pool import ExecutorPool, Progress, Work

RUN_SECONDS = 300.0
"""How long one step may take."""
TRIAL_TEXT = "Hello."
REASON_LENGTH_MAX = 100


@dataclass(frozen=True)
class Desired:
    """A version that is to be served."""

    deployment: str
    name: str
    version: int
    steps: Sequence[Mapping[str, Any]]
    token_digest: str

    @property
    def models(self) -> list[tuple[str, str | None]]:
        """By step: its kind of work, and the model that it names."""
        return [(step["kind"], step["input"].get("model")) for step in self.steps]

    @property
    def takes_data(self) -> bool:
        """Whether it needs data beside a text, so that nobody can try it without."""
        return any(place.partition(".")[0] == "data" for step in self.steps for place in places_in(step["input"]))


class StepFailed(Exception):
    """A step could not be done; `fault` says whose doing that was."""

    def __init__(self, reason: str, fault: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason[:REASON_LENGTH_MAX]
        self.fault = fault


class Steps:
    """Does steps."""

    def __init__(self, pool: ExecutorPool, scratch: Path) -> None:
        self._pool = pool
        self._scratch = scratch

    async def run(self, desired: Desired, text: str, data: Any) -> Any:
        """The output of the last step. Raises `StepFailed`."""
        made: dict[str, str] = {}
        output: Any = None
        for step in desired.steps:
            output = await self._step(step, text, data, made)
            made[step["name"]] = text_of_output(output)
        return output

    async def trial(self, desired: Desired, can: Mapping[str, Any]) -> None:
        """Try a version before it serves; `can` is what the miner announces. Raises `StepFailed`."""
        for kind, model in desired.models:
            if kind not in can["kinds"]:
                raise StepFailed("kind_unavailable", "miner", f"{kind} cannot be done here")
            served = can["models"].get(kind)
            if model is not None and served is not None and model not in served:
                raise StepFailed("model_unavailable", "miner", f"{model} is not here")
        if not desired.takes_data:
            await self.run(desired, TRIAL_TEXT, None)

    async def _step(self, step: Mapping[str, Any], text: str, data: Any, made: Mapping[str, str]) -> Any:
        def at(place: str) -> Any:
            head, _, path = place.partition(".")
            if head == "text":
                return text
            return _walk(data, path) if head == "data" else made.get(path, "")

        try:
            wanted = fill(step["input"], at)
        except FilledTooLarge as error:
            raise StepFailed(error.code, "requester", error.message) from None
        folder = self._scratch / f"edge-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        try:
            work = Work(
                job_id=folder.name,
                attempt=1,
                kind=step["kind"],
                input=wanted,
                input_files={},
                folder=folder,
                run_seconds=RUN_SECONDS,
            )
            outcome = await self._pool.run(work, on_progress=_pass_over)
            if outcome.error is not None:
                raise StepFailed(outcome.error.reason, outcome.error.fault, outcome.error.message)
            large = outcome.output_files.get("output")
            return outcome.output if large is None else json.loads(await asyncio.to_thread(large.read_bytes))
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _walk(value: Any, path: str) -> Any:
    """What lies at a path of names and positions; null where nothing does."""
    for name in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def _pass_over(_: Progress) -> None:
    """Nobody watches the progress."""
