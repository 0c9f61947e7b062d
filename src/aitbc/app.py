"""The one place that knows every module."""

from aitbc.kernel.house import parts
from aitbc.kernel.module import Module
from aitbc.modules.ai.module import module as ai
from aitbc.modules.trading.module import module as trading

MODULES: tuple[Module, ...] = (ai, trading)
"""Top first: a module may call those after it, never those before."""

__all__ = ["MODULES", "parts"]
