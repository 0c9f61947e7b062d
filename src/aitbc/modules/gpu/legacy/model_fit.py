"""Whether a language model fits a GPU, and how: arithmetic on the size in its name, measured by nobody."""

import re

from msgspec import Struct

_SIZE = re.compile(r"(?:^|[^0-9a-z])(?:([0-9]{1,3})x)?([0-9]{1,4}(?:\.[0-9]{1,2})?)\s?b(?:$|[^a-z0-9])", re.IGNORECASE)
PRECISIONS = (("fp16", 16), ("int8", 8), ("int4", 4))
"""From the most exact to the smallest, with the bits of a weight."""
OVERHEAD = 1.2
"""What a model takes beside its weights at short contexts: a fifth of them."""
MIB = 2**20


class Fit(Struct, frozen=True, kw_only=True):
    """How a model goes onto a GPU."""

    gpu_id: str
    model_name: str
    optimized: bool
    """Whether there is a setting under which it fits."""
    latency_reduction: float
    """Always zero: nothing is promised that was not measured."""
    precision: str | None
    memory_needed_mib: int | None
    memory_total_mib: int | None
    note: str


def fit(gpu: str, memory_mib: int | None, model: str) -> Fit:
    """The most exact precision at which the weights, and a fifth more, fit into the memory."""
    size = _SIZE.search(model)
    if memory_mib is None:
        return _fit(gpu, model, None, None, None, "The memory of this GPU is not known.")
    if size is None:
        return _fit(
            gpu, model, None, None, memory_mib, "The name of the model does not say how large it is, as llama-7b does."
        )
    weights = int(size[1] or 1) * float(size[2]) * 1e9
    needed = {name: round(weights * bits / 8 * OVERHEAD / MIB) for name, bits in PRECISIONS}
    for name, mib in needed.items():
        if mib <= memory_mib:
            return _fit(
                gpu, model, name, mib, memory_mib, f"It fits as {name}; worked out from its size, not measured."
            )
    least = needed["int4"]
    return _fit(gpu, model, None, least, memory_mib, f"Even as int4 it needs {least} MiB.")


def _fit(gpu: str, model: str, precision: str | None, needed: int | None, total: int | None, note: str) -> Fit:
    return Fit(
        gpu_id=gpu,
        model_name=model,
        optimized=precision is not None,
        latency_reduction=0.0,
        precision=precision,
        memory_needed_mib=needed,
        memory_total_mib=total,
        note=note,
    )
