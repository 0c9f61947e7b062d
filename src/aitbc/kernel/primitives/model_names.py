"""Names of models of GPUs as people write them: `RTX4090`, `rtx-4090` and `NVIDIA GeForce RTX 4090` are one."""

import re

NOISE = r"geforce|radeon|[^a-z0-9]+"
"""What people leave out or write otherwise: the product line, spaces, dashes, underscores."""


def squeezed(name: str) -> str:
    """The letters and digits that tell a model from others: `nvidiartx4090`."""
    return re.sub(NOISE, "", name.lower())


def is_named(model: str, wanted: str) -> bool:
    """Whether a model's name has the wanted one in it, however either is written."""
    sought = squeezed(wanted)
    return sought in squeezed(model) if sought else wanted.casefold() in model.casefold()
