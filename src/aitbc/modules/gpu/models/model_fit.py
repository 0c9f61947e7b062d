"""Whether a language model fits a GPU, and how: arithmetic on the size in its name, measured by nobody."""

import re

from msgspec import Struct

_SIZE = re.compile(r"(?:^|[^0-9a-z])(?:([0-9]{1,3})x)?([0-9]{1,4}(?:\.[0-9]{1,2})?)\s?b(?:$|[^a-z0-9])", re.IGNORECASE)
PRECISIONS = (("fp16", 16), ("int8", 8), ("int4", 4))
"""From the most exact to the smallest, with the bits of a weight."""
OVERHEAD = 1.2
"""What a model takes beside its weights at short contexts: a fifth of them."""
MIB = 2**20


class ModelFit(Struct, frozen=True, kw_only=True):
    """How a model goes onto a GPU."""

    precision: str | None = None
    """The most exact one at which it fits; none where there is none, or that cannot be said."""
    memory_needed_mib: int | None = None
    note: str


def fit(memory_mib: int | None, model: str) -> ModelFit:
    """The most exact precision at which the weights, and a fifth more, fit into the memory."""
    size = _SIZE.search(model)
    if memory_mib is None:
        return ModelFit(note="The memory of this GPU is not known.")
    if size is None:
        return ModelFit(note="The name of the model does not say how large it is, as llama-7b does.")
    weights = int(size[1] or 1) * float(size[2]) * 1e9
    needed = {name: round(weights * bits / 8 * OVERHEAD / MIB) for name, bits in PRECISIONS}
    for name, mib in needed.items():
        if mib <= memory_mib:
            note = f"It fits as {name}; worked out from its size, not measured."
            return ModelFit(precision=name, memory_needed_mib=mib, note=note)
    least = needed["int4"]
    return ModelFit(memory_needed_mib=least, note=f"Even as int4 it needs {least} MiB.")
