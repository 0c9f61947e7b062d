"""Reranking: a query and documents in, how well each fits out."""

import math
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from aitbc.modules.ai.models.kinds.embed import TEXT_BYTES_MAX, Text
from aitbc.modules.ai.models.kinds.kind import FileFacts, InvalidInput, Kind, Measure, OutputRefused, is_same_model

DOCUMENTS_MAX = 256
SCORE_DIFFERENCE_MAX = 0.01
"""How far two scores of one document lie apart at most; docs/verification.md has the measurement."""
SCORE_MAX = 1e6


class RerankInput(Struct, frozen=True, forbid_unknown_fields=True):
    """A query and the documents to rank by it, each at most 8 KiB of UTF-8."""

    query: Text
    """What is looked for. For example `When is high tide?`."""
    documents: Annotated[
        list[Text], Meta(min_length=1, max_length=DOCUMENTS_MAX, examples=[["The tide is high at noon."]])
    ]
    """The documents."""
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """The model that must do it; left out, any that the miner serves. For example `wordllama-256`."""


class RerankOutput(Struct, frozen=True):
    """How well each document fits, and what says so."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    """The model that compared them. For example `wordllama-256`."""
    scores: Annotated[list[Annotated[float, Meta(ge=-SCORE_MAX, le=SCORE_MAX)]], Meta(max_length=DOCUMENTS_MAX)]
    """One for each document, in their order: the higher, the better it fits. Scores of different models say nothing
    about each other."""


class Rerank(Kind):
    """Metered by what goes in; the number of scores is held against it."""

    name = "rerank"
    summary = "Says how well documents fit a query, by closeness of meaning."
    unit = "byte"
    metering = "One unit for each byte of the query and the documents in UTF-8, counted by the platform when the job is submitted."
    unit_price_units = 10
    fastest = 64.0 * 1024 * 1024
    input = RerankInput
    output = RerankOutput
    equality = f"The same model, and scores that lie at most {SCORE_DIFFERENCE_MAX} apart."

    def measure(self, given: RerankInput, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """The bytes of query and documents."""
        texts = {"query": given.query} | {f"documents[{at}]": text for at, text in enumerate(given.documents)}
        sizes = {name: len(text.encode()) for name, text in texts.items()}
        for name, size in sizes.items():
            if size > TEXT_BYTES_MAX:
                raise InvalidInput(f"{name} has {size} bytes of UTF-8; at most {TEXT_BYTES_MAX} are allowed.")
            if "\0" in texts[name]:
                raise InvalidInput(f"{name} holds a NUL character.")
        units = sum(sizes.values())
        return Measure(units=units, units_max=units, model=given.model, expects={"documents": len(given.documents)})

    def meter(self, output: RerankOutput, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """What was counted of the input, once there are as many scores as documents."""
        if len(output.scores) != expects["documents"]:
            raise OutputRefused(f"{len(output.scores)} scores for {expects['documents']} documents")
        if not all(map(math.isfinite, output.scores)):
            raise OutputRefused("a score is no finite number")
        return input_units

    def agrees(self, one: RerankOutput, other: RerankOutput) -> bool:
        """Each pair of scores; what no model was named for must be of the same one too."""
        if not is_same_model(one.model, other.model):
            return False
        pairs = zip(one.scores, other.scores, strict=True)
        return all(abs(a - b) <= SCORE_DIFFERENCE_MAX for a, b in pairs)

    def model_of(self, output: RerankOutput) -> str | None:
        """What the output names."""
        return output.model

    def evidence(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> str | None:
        """The number of documents."""
        counted = usage.get("documents")
        if counted in (None, expects["documents"]):
            return None
        return f"The miner counted {counted} documents, the platform {expects['documents']}."

    def counts(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> tuple[int, int] | None:
        """Documents."""
        return (usage["documents"], expects["documents"]) if "documents" in usage else None
