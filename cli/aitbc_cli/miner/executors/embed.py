"""Text embeddings on the CPU with wordllama, whose weights come inside its package."""

import hashlib
import importlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aitbc_cli.miner.executors.fields import FieldError, read_integer, read_list, read_object, read_text
from aitbc_cli.miner.executors.work import Outcome, Progress, Report, Work, WorkFailed

MODEL = "wordllama-256"
DIMENSIONS = 256
"""What the model has; its vectors can be cut to fewer."""
# Six decimals are below the noise of the model and above that of the arithmetic: the same text gives the same bytes.
DECIMALS = 6
TEXTS_MAX = 2_048
TEXT_CHARACTERS_MAX = 32_768
ALL_CHARACTERS_MAX = 1_048_576

_WEIGHTS = "l2_supercat_256.safetensors"
_REPORT_EVERY = 64


class EmbedExecutor:
    """Turns texts into unit vectors; the model is loaded once and never fetched."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        read_object(options, allowed=frozenset({"memory_bytes", "threads"}), what="configuration of embed")
        wordllama: Any = importlib.import_module("wordllama")
        package = Path(wordllama.__file__).parent
        self._model: Any = wordllama.WordLlama.load(cache_dir=package, disable_download=True)
        with (package / "weights" / _WEIGHTS).open("rb") as weights:
            self._digest = "sha256:" + hashlib.file_digest(weights, "sha256").hexdigest()

    def warm_up(self) -> dict[str, Any]:
        """Embed one sentence."""
        self.vector("A first sentence.", DIMENSIONS)
        return {"models": [MODEL], "weights": self._digest}

    def run(self, work: Work, report: Report) -> Outcome:
        """One vector a text, in order; usage counts the texts and the tokens of the model's own tokenizer."""
        started = time.monotonic()
        texts, dimensions = _read_input(work.input)
        vectors: list[list[float]] = []
        tokens = 0
        for text in texts:
            vector, count = self.vector(text, dimensions)
            vectors.append(vector)
            tokens += count
            if len(vectors) % _REPORT_EVERY == 0:
                report(Progress(len(vectors) / len(texts), []))
        output = {"model": MODEL, "weights": self._digest, "dimensions": dimensions, "vectors": vectors}
        milliseconds = round((time.monotonic() - started) * 1000)
        return Outcome(output=output, usage={"texts": len(texts), "tokens": tokens, "milliseconds": milliseconds})

    def vector(self, text: str, dimensions: int) -> tuple[list[float], int]:
        """The unit vector of a text, and its number of tokens.

        Each text is pooled alone and in double precision: neither its neighbours nor the width of the processor's
        vector unit can change a digit, and one long text cannot pad all the others to its length.
        """
        ids = self._model.tokenizer.encode(text, add_special_tokens=False).ids
        if not ids:
            return [0.0] * dimensions, 0
        pooled = self._model.embedding[ids, :dimensions].sum(axis=0, dtype="float64").tolist()
        length = math.sqrt(math.fsum(value * value for value in pooled)) or 1.0
        # Adding zero turns the negative zero, which prints differently, into zero.
        return [round(value / length, DECIMALS) + 0.0 for value in pooled], len(ids)


def _read_input(value: Any) -> tuple[list[str], int]:
    fields = read_object(value, allowed=frozenset({"texts", "model", "dimensions"}), what="input of embed")
    if fields.get("model") not in (None, MODEL):
        raise WorkFailed("platform", "model_unavailable", f"This miner embeds with {MODEL} alone.")
    dimensions = DIMENSIONS
    if fields.get("dimensions") is not None:
        dimensions = read_integer(fields["dimensions"], "dimensions", least=1, most=DIMENSIONS)
    items = read_list(fields.get("texts"), "texts", fewest=1, most=TEXTS_MAX)
    texts = [
        read_text(text, f"texts[{number}]", shortest=1, longest=TEXT_CHARACTERS_MAX)
        for number, text in enumerate(items)
    ]
    if sum(map(len, texts)) > ALL_CHARACTERS_MAX:
        raise FieldError(f"All texts together may have {ALL_CHARACTERS_MAX} characters.")
    return texts, dimensions
