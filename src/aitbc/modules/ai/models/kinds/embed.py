"""Text embeddings: texts in, one vector each out."""

import math
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from aitbc.modules.ai.models.checks.agreement import COSINE_MIN, cosine
from aitbc.modules.ai.models.kinds.kind import (
    FileFacts,
    InvalidInput,
    Kind,
    Measure,
    OutputRefused,
    is_same_model,
)

TEXTS_MAX = 256
TEXT_BYTES_MAX = 8 * 1024
DIMENSIONS_MAX = 8192
DIMENSIONS_ASKED_MAX = 256
"""How many dimensions may be asked for: what every model can be cut to. Without a wish a vector has them all."""

Text = Annotated[str, Meta(min_length=1, max_length=TEXT_BYTES_MAX)]


class EmbedInput(Struct, frozen=True, forbid_unknown_fields=True):
    """Texts to embed, each at most 8 KiB of UTF-8; a vector each comes back, in order."""

    texts: Annotated[list[Text], Meta(min_length=1, max_length=TEXTS_MAX, examples=[["A sentence to embed."]])]
    """The texts."""
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """The model that must do it; left out, any that the miner serves. For example `minilm`."""
    dimensions: Annotated[int, Meta(ge=1, le=DIMENSIONS_ASKED_MAX)] | None = None
    """How many numbers a vector must have; left out, as many as the model makes. For example `384`."""


class EmbedOutput(Struct, frozen=True):
    """The vectors, and what made them."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    """The model that made the vectors. For example `minilm`."""
    dimensions: Annotated[int, Meta(ge=1, le=DIMENSIONS_MAX)]
    """How many numbers each has. For example `384`."""
    vectors: Annotated[list[list[float]], Meta(max_length=TEXTS_MAX)]
    """One for each text, in order."""


class Embed(Kind):
    """Metered by what goes in; the number and the length of the vectors are held against it."""

    name = "embed"
    summary = "Turns texts into vectors whose closeness is closeness of meaning."
    unit = "byte"
    metering = "One unit for each byte of the texts in UTF-8, counted by the platform when the job is submitted."
    unit_price_units = 10
    fastest = 64.0 * 1024 * 1024
    input = EmbedInput
    output = EmbedOutput
    equality = f"The same model, and for each text a cosine of at least {COSINE_MIN}."

    def measure(self, given: EmbedInput, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """The bytes of all texts."""
        sizes = [len(text.encode()) for text in given.texts]
        for number, size in enumerate(sizes):
            if size > TEXT_BYTES_MAX:
                raise InvalidInput(f"texts[{number}] has {size} bytes of UTF-8; at most {TEXT_BYTES_MAX} are allowed.")
            if "\0" in given.texts[number]:
                raise InvalidInput(f"texts[{number}] holds a NUL character.")
        expects = {"texts": len(sizes), "dimensions": given.dimensions or 0}
        return Measure(units=sum(sizes), units_max=sum(sizes), model=given.model, expects=expects)

    def meter(self, output: EmbedOutput, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """What was counted of the input, once the vectors are as many and as long as they must be."""
        if len(output.vectors) != expects["texts"]:
            raise OutputRefused(f"{len(output.vectors)} vectors for {expects['texts']} texts")
        if expects["dimensions"] not in (0, output.dimensions):
            raise OutputRefused(f"{output.dimensions} dimensions where {expects['dimensions']} were asked for")
        for number, vector in enumerate(output.vectors):
            if len(vector) != output.dimensions or not all(map(math.isfinite, vector)):
                raise OutputRefused(f"vectors[{number}] is not {output.dimensions} finite numbers")
        return input_units

    def agrees(self, one: EmbedOutput, other: EmbedOutput) -> bool:
        """The cosine of each pair of vectors; what no model was named for must be of the same one too."""
        if one.dimensions != other.dimensions or not is_same_model(one.model, other.model):
            return False
        return all(cosine(a, b) >= COSINE_MIN for a, b in zip(one.vectors, other.vectors, strict=True))

    def model_of(self, output: EmbedOutput) -> str | None:
        """What the output names."""
        return output.model

    def evidence(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> str | None:
        """The number of texts."""
        counted = usage.get("texts")
        if counted in (None, expects["texts"]):
            return None
        return f"The miner counted {counted} texts, the platform {expects['texts']}."

    def counts(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> tuple[int, int] | None:
        """Texts."""
        return (usage["texts"], expects["texts"]) if "texts" in usage else None
