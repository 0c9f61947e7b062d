"""What is asked for and cannot be done now, in the face of ai."""

from datetime import datetime

from msgspec import Struct


class UnservedModel(Struct, frozen=True, kw_only=True):
    """A model that jobs wait for while no miner that is online serves it."""

    kind: str
    model: str
    since: datetime
    """When the first of the jobs that wait was submitted."""
    jobs: tuple[str, ...]
    """The first of them, 20 at most, in the order of their submission."""
