"""Proofs of hardware: what a miner is asked to compute with a GPU, by when, and what is known of the GPU by it.

    product ──► rows ──► memory ──► reads ──► passed
       └─────────┴─────────┴─────────┴──────► failed       late, wrong, or another was begun

A miner multiplies two matrices that a seed decides, and sends the root of a tree over the rows of the product; then the
platform picks rows and checks some of their entries. After that the miner fills the memory and answers what stands at
places that the platform picks. Each step has its own deadline.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.gpu.models.devices import words_of
from aitbc.modules.gpu.models.tables import MOMENT, Base, MinerRow

VALID = timedelta(hours=7)
"""How long a GPU is called measured after it was."""
ROWS, COLUMNS, PLACES = 4, 2, 64
"""How many rows of the product are opened, entries of each are computed anew, and places of the memory are read."""
ROWS_WITHIN = timedelta(seconds=15)
MEMORY_WITHIN = timedelta(seconds=120)
READS_WITHIN = timedelta(seconds=5)
WAY = timedelta(seconds=2)
"""What the way there and back, and the start of the work, may take beside the product."""
MEMORY_SHARE = 0.9
"""So much of a GPU's memory is filled: the runtime needs some for itself."""
CLASSES: tuple[tuple[frozenset[str], int, float], ...] = (
    (frozenset({"h100", "h200", "gh200", "b100", "b200", "gb200"}), 16_384, 4.0),
    (frozenset({"a100", "a800", "l40", "l40s", "4090", "5090", "6000"}), 16_384, 8.0),
)
"""Words of GPUs' names, with the size of the matrices and the seconds within which such a GPU has multiplied them.

A processor with 16 cores takes 10 seconds and more for the larger product.
"""
OTHERS = (8192, 2.0)


class Step(StrEnum):
    """What a proof waits for, or how it ended."""

    PRODUCT = "product"
    ROWS = "rows"
    MEMORY = "memory"
    READS = "reads"
    PASSED = "passed"
    FAILED = "failed"


OPEN = frozenset({Step.PRODUCT, Step.ROWS, Step.MEMORY, Step.READS})


def task_of(name: str | None) -> tuple[int, timedelta]:
    """How large a product a GPU of this name is asked for, and how long it may take."""
    words = set(words_of(name))
    size, seconds = next(((size, seconds) for named, size, seconds in CLASSES if named & words), OTHERS)
    return size, timedelta(seconds=seconds)


class ProofRow(Base):
    """A proof of one GPU, from the seed to the verdict."""

    __tablename__ = "proofs"
    id: Mapped[str] = mapped_column(WireId("prf"), primary_key=True)
    miner: Mapped[str] = mapped_column(WireId("mnr"), ForeignKey(MinerRow.id))
    uuid: Mapped[str] = mapped_column(Text)
    name: Mapped[str | None] = mapped_column(Text)
    """What its driver called it when the proof began."""
    step: Mapped[str] = mapped_column(Text)
    seed: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(Integer)
    memory_mib: Mapped[int] = mapped_column(BigInteger)
    asked_at: Mapped[datetime] = mapped_column(MOMENT)
    due_at: Mapped[datetime] = mapped_column(MOMENT)
    """Until when the step may last."""
    root: Mapped[str | None] = mapped_column(Text)
    picked: Mapped[str | None] = mapped_column(Text)
    """The rows or places that were picked, as JSON text."""
    product_ms: Mapped[int | None] = mapped_column(Integer)
    """Between the seed's answer and the root, by the platform's clock."""
    runtime: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    """Why it failed."""
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("step IN ('product', 'rows', 'memory', 'reads', 'passed', 'failed')", name="step"),
        CheckConstraint("(step IN ('passed', 'failed')) = (ended_at IS NOT NULL)", name="ended"),
        Index("proofs_miner_idx", "miner", "uuid", "id"),
        Index("proofs_asked_at_idx", "asked_at"),
        {"info": ALL},
    )


class DeviceFactRow(Base):
    """What is known of a GPU by its last proof."""

    __tablename__ = "device_facts"
    miner: Mapped[str] = mapped_column(WireId("mnr"), ForeignKey(MinerRow.id), primary_key=True)
    uuid: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    """`measured`, or `claimed` where the last proof failed or is too old."""
    reason: Mapped[str | None] = mapped_column(Text)
    proof: Mapped[str] = mapped_column(WireId("prf"))
    runtime: Mapped[str | None] = mapped_column(Text)
    size: Mapped[int] = mapped_column(Integer)
    product_ms: Mapped[int | None] = mapped_column(Integer)
    memory_mib: Mapped[int | None] = mapped_column(BigInteger)
    """How much of its memory was filled and read."""
    as_of: Mapped[datetime] = mapped_column(MOMENT)

    __table_args__ = (
        CheckConstraint("source IN ('claimed', 'measured')", name="source"),
        Index("device_facts_as_of_idx", "as_of"),
        {"info": ALL},
    )


Hex = Annotated[
    str,
    Meta(max_length=64, pattern=r"^[0-9a-f]{64}\Z"),
    Meta(extra_json_schema={"pattern": "^[0-9a-f]{64}$"}),
]


class AskProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A miner wants to prove one of its GPUs."""

    gpu: Annotated[str, Meta(min_length=1, max_length=128)]
    """Its uuid. For example `GPU-5b2c0c4e-8f5a-4a53-9d5b-7f1f2f6b3a10`."""


class OpenedRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the product, and its way to the root."""

    row: Annotated[int, Meta(ge=0, le=2**20)]
    """Its number. For example `812`."""
    values: Annotated[str, Meta(max_length=200_000)]
    """Its int32 numbers in little endian, in base64. For example `gvz//w4DAAA=`."""
    path: Annotated[tuple[Hex, ...], Meta(max_length=24)]
    """The hashes beside its way to the root, from the leaf on."""


class AnswerProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the present step of a proof asks for; the other fields are left out."""

    root: Hex | None = None
    """Step `product`: the root of the tree over the rows of the product."""
    runtime: Annotated[str, Meta(max_length=64)] | None = None
    """Step `product`: what computed it. For example `torch 2.11.0`."""
    rows: Annotated[tuple[OpenedRow, ...], Meta(max_length=ROWS)] | None = None
    """Step `rows`: the rows that were picked, in that order."""
    filled: bool = False
    """Step `memory`: whether the memory is filled."""
    values: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**32 - 1)], ...], Meta(max_length=PLACES)] | None = None
    """Step `reads`: what stands at the places that were picked, in that order."""


class Proof(Struct, frozen=True, kw_only=True):
    """A proof, and what is to be done for it next."""

    id: str
    """The proof. For example `prf_01k0000000000000000000000a`."""
    gpu: str
    """The GPU's uuid. For example `GPU-5b2c0c4e-8f5a-4a53-9d5b-7f1f2f6b3a10`."""
    step: Literal["product", "rows", "memory", "reads", "passed", "failed"]
    """What it waits for, or how it ended."""
    seed: str
    """What the numbers of both matrices and of the memory are made of. For example `9f86d081884c7d65`."""
    size: int
    """The rows and columns of each matrix. For example `16384`."""
    memory_mib: int
    """How much memory is filled, in MiB. For example `72971`."""
    picked: tuple[int, ...]
    """Step `rows`: the rows to open; step `reads`: the places to read."""
    due_at: datetime
    """Until when the step may last."""
    reason: str | None
    """Why it failed. For example `late`."""


class DeviceFact(Struct, frozen=True, kw_only=True):
    """What is known of a GPU, how, and since when."""

    gpu: str
    """Its uuid. For example `GPU-5b2c0c4e-8f5a-4a53-9d5b-7f1f2f6b3a10`."""
    name: str | None
    """What its driver calls it. For example `NVIDIA H100 80GB HBM3`."""
    source: Literal["claimed", "measured"]
    """`measured`: it has proved that it computes as fast as such a GPU does; `claimed`: only its driver says so."""
    reason: str | None
    """Why it is not measured, where it tried. For example `late`."""
    as_of: datetime
    """When it was last tried."""
    runtime: str | None
    """What computed. For example `torch 2.11.0`."""
    size: int
    """The rows and columns of the matrices. For example `16384`."""
    product_ms: int | None
    """How long the product took, with the way there and back, in milliseconds. For example `740`."""
    memory_mib: int | None
    """How much of its memory was filled and read, in MiB. For example `72971`."""


def fact_of(row: DeviceFactRow) -> DeviceFact:
    """A fact as its owner sees it."""
    fields: dict[str, Any] = {
        name: getattr(row, name)
        for name in ("name", "source", "reason", "as_of", "runtime", "size", "product_ms", "memory_mib")
    }
    return DeviceFact(gpu=row.uuid, **fields)
