"""The one place that knows every module."""

from collections.abc import Mapping
from typing import Any

from aitbc.kernel import serving
from aitbc.kernel.house import parts
from aitbc.kernel.module import Module
from aitbc.modules.ai.module import module as ai
from aitbc.modules.trading.module import module as trading

__all__ = ["MODULES", "parts", "serve"]

MODULES: tuple[Module, ...] = (ai, trading)
"""Top first: a module may call those after it, never those before."""


def serve(flags: Mapping[str, Any]) -> int:
    """Serve the whole platform in this process until a signal; gives the exit code."""
    return serving.serve(MODULES, flags)
