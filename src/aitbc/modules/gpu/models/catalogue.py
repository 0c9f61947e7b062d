"""Consumer GPUs as their maker describes them: what legacy clients look up before they have a GPU of their own."""

from enum import StrEnum

from msgspec import Struct


class Architecture(StrEnum):
    """Generations of GPUs."""

    TURING = "turing"
    AMPERE = "ampere"
    ADA_LOVELACE = "ada_lovelace"
    PASCAL = "pascal"
    VOLTA = "volta"
    UNKNOWN = "unknown"


class ConsumerGpu(Struct, frozen=True, kw_only=True):
    """A model of GPU, by the data sheet of its maker."""

    key: str
    name: str
    architecture: Architecture
    memory_gb: int
    cuda_cores: int
    tensor_cores: int
    memory_bandwidth_gbps: float
    base_clock_mhz: int
    boost_clock_mhz: int
    power_w: float
    compute_capability: str


CATALOGUE = (
    ConsumerGpu(
        key="gtx_1660",
        name="NVIDIA GTX 1660",
        architecture=Architecture.TURING,
        memory_gb=6,
        cuda_cores=1408,
        tensor_cores=0,
        memory_bandwidth_gbps=192.0,
        base_clock_mhz=1530,
        boost_clock_mhz=1785,
        power_w=120.0,
        compute_capability="7.5",
    ),
    ConsumerGpu(
        key="rtx_3060",
        name="NVIDIA RTX 3060",
        architecture=Architecture.AMPERE,
        memory_gb=12,
        cuda_cores=3584,
        tensor_cores=112,
        memory_bandwidth_gbps=360.0,
        base_clock_mhz=1320,
        boost_clock_mhz=1777,
        power_w=170.0,
        compute_capability="8.6",
    ),
    ConsumerGpu(
        key="rtx_4090",
        name="NVIDIA RTX 4090",
        architecture=Architecture.ADA_LOVELACE,
        memory_gb=24,
        cuda_cores=16384,
        tensor_cores=512,
        memory_bandwidth_gbps=1008.0,
        base_clock_mhz=2235,
        boost_clock_mhz=2520,
        power_w=450.0,
        compute_capability="8.9",
    ),
)
CONSUMER = ("geforce", "rtx", "gtx")
"""What a name of a GPU for consumers begins with, or one of its words does."""
PROFESSIONAL = frozenset({"quadro", "ada", "a2000", "a4000", "a4500", "a5000", "a5500", "a6000"})


def is_consumer(name: str | None) -> bool:
    """Whether a GPU that a driver calls so is one for consumers, not for workstations or data centres."""
    words = (name or "").lower().replace("-", " ").split()
    return any(word.startswith(CONSUMER) for word in words) and PROFESSIONAL.isdisjoint(words)
