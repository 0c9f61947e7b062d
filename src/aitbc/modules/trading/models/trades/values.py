"""The words of a trade: its kinds, its levels, and what is wanted or offered of a thing."""

from typing import Annotated, Literal

from msgspec import Meta

from aitbc.kernel.primitives.text import Name

TRADE_TYPES = (
    "ai_power",
    "compute_resources",
    "data_services",
    "model_services",
    "inference_tasks",
    "training_tasks",
)
TradeType = Literal[
    "ai_power", "compute_resources", "data_services", "model_services", "inference_tasks", "training_tasks"
]
SERVICE_LEVELS = ("basic", "standard", "premium")
ServiceLevel = Literal["basic", "standard", "premium"]
Urgency = Literal["low", "normal", "high", "urgent"]
METERED = "metered"
"""Paid by the booking or the jobs that the market places: for offers of the market, and for nothing else."""
WORK_TYPE = "inference_tasks"
"""The type of trades whose offers are those of work on the market."""
SETTLEMENT_TYPES = ("immediate", "escrow", "milestone", "subscription", METERED)
SettlementType = Literal["immediate", "escrow", "milestone", "subscription", "metered"]
Strategy = Literal["aggressive", "balanced", "cooperative"]

Figure = Annotated[float, Meta(ge=-1e15, le=1e15)]
SpecKey = Annotated[
    str,
    Meta(min_length=1, max_length=50, pattern=r"^[a-z][a-z0-9_]*\Z"),
    Meta(extra_json_schema={"pattern": "^[a-z][a-z0-9_]*$", "examples": ["vram_gb"]}),
]
# No plain word beside the list: msgspec 0.22 aborts the process at a union of a text with a pattern and a list.
SpecValue = Figure | Annotated[list[Name], Meta(max_length=20)]
Specifications = Annotated[
    dict[SpecKey, SpecValue],
    Meta(max_length=32),
    Meta(extra_json_schema={"examples": [{"vram_gb": 80, "gpu": ["H100"]}]}),
]
"""What is wanted, or offered, by name: a number, or a list of words."""
Regions = Annotated[list[Name], Meta(max_length=20)]
