"""Ratings of miners by those who paid: once for each receipt or booking, and shrunk to a prior while there are few."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import APPEND_ONLY
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.marketplace.models.tables import MOMENT, Base

PRIOR_STARS, PRIOR_RATINGS = 3, 10
"""What a miner is taken for that nobody has rated, and how many ratings that counts for."""


class RatingRow(Base):
    """What the payer of a receipt or a booking says of the miner; it is never changed."""

    __tablename__ = "ratings"
    __table_args__ = (
        CheckConstraint("stars BETWEEN 1 AND 5", name="stars"),
        CheckConstraint("account <> owner", name="own"),
        Index("ratings_miner_idx", "miner", "rated_at", "subject"),
        Index("ratings_rated_at_idx", "rated_at", "subject"),
        {"info": APPEND_ONLY},
    )
    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    """The receipt of a job, or the booking."""
    account: Mapped[str] = mapped_column(WireId("acct"))
    """Who paid, and rates."""
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    owner: Mapped[str] = mapped_column(WireId("acct"))
    """Whose miner it is."""
    stars: Mapped[int] = mapped_column(SmallInteger)
    comment: Mapped[str] = mapped_column(Text)
    rated_at: Mapped[datetime] = mapped_column(MOMENT)


def shrunk(stars: int, ratings: int) -> int:
    """Thousandths of a star: the mean of all ratings and the prior's. Two of five stars don't outrank 400 of 4.8."""
    return 1000 * (stars + PRIOR_STARS * PRIOR_RATINGS) // (ratings + PRIOR_RATINGS)
