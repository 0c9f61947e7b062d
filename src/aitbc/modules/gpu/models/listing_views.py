"""Listed GPUs and their reviews as the service returns them: amounts in minor units."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from aitbc.modules.gpu.api import GpuForRent, MachineOffer
from aitbc.modules.gpu.models.devices import CLAIMED, Evidence
from aitbc.modules.gpu.models.listings import GpuReviewRow, ListedGpuRow

Unavailable = Literal["no_miner", "miner_offline", "gpu_not_shown"]
"""Why a listed GPU cannot be had.

`no_miner`: its owner has no miner of the name that it is listed under. `miner_offline`: that miner takes no work.
`gpu_not_shown`: that miner shows no such GPU, or only one with a fault.
"""


class ListedGpu(Struct, frozen=True, kw_only=True):
    """A GPU that its owner lists: what the owner says of it, and whether its miner shows such a GPU now."""

    id: str
    miner_name: str
    model: str
    memory_gb: int | None
    cuda_cores: int | None
    compute_capability: str | None
    region: str | None
    price_units: int
    """For an hour."""
    description: str
    status: str
    """`booked`; else `available` while the miner that it is in takes work and shows such a GPU; else `offline`."""
    status_reason: Unavailable | None = None
    """Why it is `offline`."""
    hardware: Evidence = CLAIMED
    """How it is known what it is."""
    machine: MachineOffer | None = None
    """What its miner gives as a machine to who books it; none where it does not say."""
    created_at: datetime
    average_rating: float | None
    """None while nobody has said anything."""
    reviews: int


class GpuReview(Struct, frozen=True, kw_only=True):
    """What an account says of a GPU."""

    id: str
    account: str
    rating: int
    comment: str
    created_at: datetime


def gpu_view(
    row: ListedGpuRow, why_not: Unavailable | None, *, booked: bool, average: float | None, reviews: int
) -> ListedGpu:
    """A listed GPU; `why_not` says why it cannot be had, whether it is booked or not."""
    return ListedGpu(
        id=row.id,
        miner_name=row.miner_name,
        model=row.model,
        memory_gb=row.memory_gb,
        cuda_cores=row.cuda_cores,
        compute_capability=row.compute_capability,
        region=row.region,
        price_units=row.price_units,
        description=row.description,
        status="booked" if booked else "available" if why_not is None else "offline",
        status_reason=None if booked else why_not,
        hardware=CLAIMED,
        created_at=row.created_at,
        average_rating=None if average is None else round(average, 2),
        reviews=reviews,
    )


def for_rent(gpu: ListedGpu) -> GpuForRent:
    """A listed GPU as other modules see it."""
    return GpuForRent(**{name: getattr(gpu, name) for name in GpuForRent.__struct_fields__})


def review_view(row: GpuReviewRow) -> GpuReview:
    """A review."""
    return GpuReview(id=row.id, account=row.account, rating=row.rating, comment=row.comment, created_at=row.created_at)
