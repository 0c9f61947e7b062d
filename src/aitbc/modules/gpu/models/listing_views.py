"""Listed GPUs and their reviews as the service returns them: amounts in minor units."""

from datetime import datetime

from msgspec import Struct

from aitbc.modules.gpu.models.listings import GpuReviewRow, ListedGpuRow


class ListedGpu(Struct, frozen=True, kw_only=True):
    """A GPU that its owner lists; what is known of it is what the owner says."""

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
    """`booked`; else `offline` while the miner that it is in, if the owner has one of that name, takes no work; else
    `available`."""
    reachable: bool
    """Whether that miner takes work; of one that is not known here its owner's word counts."""
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


def gpu_view(row: ListedGpuRow, *, reachable: bool, booked: bool, average: float | None, reviews: int) -> ListedGpu:
    """A listed GPU; `reachable` unless its miner is known and takes no work."""
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
        status="booked" if booked else "available" if reachable else "offline",
        reachable=reachable,
        created_at=row.created_at,
        average_rating=None if average is None else round(average, 2),
        reviews=reviews,
    )


def review_view(row: GpuReviewRow) -> GpuReview:
    """A review."""
    return GpuReview(id=row.id, account=row.account, rating=row.rating, comment=row.comment, created_at=row.created_at)
