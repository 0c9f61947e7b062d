"""Reranking on the CPU: the closeness of a query's vector to that of each document, with the model that embeds."""

import math
import time
from collections.abc import Mapping
from typing import Any

from aitbc_cli.miner.executors.embed import DECIMALS, DIMENSIONS, MODEL, EmbedExecutor
from aitbc_cli.miner.executors.fields import read_list, read_object, read_text
from aitbc_cli.miner.executors.work import Outcome, Progress, Report, Work, WorkFailed

DOCUMENTS_MAX = 2_048
TEXT_CHARACTERS_MAX = 32_768
_REPORT_EVERY = 64


class RerankExecutor:
    """Compares texts; the model is loaded once and never fetched."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._texts = EmbedExecutor(options)

    def warm_up(self) -> dict[str, Any]:
        """Embed one sentence."""
        return self._texts.warm_up()

    def run(self, work: Work, report: Report) -> Outcome:
        """One score for each document, in order: the cosine with the query, -1 to 1; 0 where a text has no token."""
        started = time.monotonic()
        query, documents = _read_input(work.input)
        wanted, tokens = self._texts.vector(query, DIMENSIONS)
        scores: list[float] = []
        for document in documents:
            vector, count = self._texts.vector(document, DIMENSIONS)
            tokens += count
            cosine = math.fsum(a * b for a, b in zip(wanted, vector, strict=True))
            scores.append(round(min(max(cosine, -1.0), 1.0), DECIMALS) + 0.0)
            if len(scores) % _REPORT_EVERY == 0:
                report(Progress(len(scores) / len(documents), []))
        milliseconds = round((time.monotonic() - started) * 1000)
        usage = {"documents": len(documents), "tokens": tokens, "milliseconds": milliseconds}
        return Outcome(output={"model": MODEL, "scores": scores}, usage=usage)


def _read_input(value: Any) -> tuple[str, list[str]]:
    fields = read_object(value, allowed=frozenset({"query", "documents", "model"}), what="input of rerank")
    if fields.get("model") not in (None, MODEL):
        raise WorkFailed("platform", "model_unavailable", f"This miner reranks with {MODEL} alone.")
    query = read_text(fields.get("query"), "query", shortest=1, longest=TEXT_CHARACTERS_MAX)
    items = read_list(fields.get("documents"), "documents", fewest=1, most=DOCUMENTS_MAX)
    documents = [
        read_text(text, f"documents[{at}]", shortest=1, longest=TEXT_CHARACTERS_MAX) for at, text in enumerate(items)
    ]
    return query, documents
