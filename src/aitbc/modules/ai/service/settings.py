"""The settings of ai."""

from typing import Annotated

from msgspec import Meta, Struct

UPLOAD_BYTES_MAX = 1024 * 1024 * 1024
"""What an upload may weigh under any settings."""


class AiSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[ai]` table of the configuration."""

    unit_prices: dict[str, int] = {}
    """The price of a unit by kind, in minor units of money, where it is not the kind's own."""
    off_peak_percent: Annotated[int, Meta(ge=1, le=100)] = 50
    """What the lines of a batch cost, in percent of the price of the same work at once."""
    artifact_bytes_max: Annotated[int, Meta(ge=1, le=UPLOAD_BYTES_MAX)] = 64 * 1024 * 1024
    """What one artifact may weigh."""
    artifact_quota_bytes: Annotated[int, Meta(ge=1)] = 1024 * 1024 * 1024
    """What the artifacts of one account may weigh together, uploads under way included."""
    uploads_per_account: Annotated[int, Meta(ge=1, le=10_000)] = 32
    """How many uploads of one account, or of one lease, may be under way at once."""
    artifact_retention_seconds: Annotated[int, Meta(ge=1)] = 604_800
    """How long an artifact is kept after its upload."""
    payload_retention_seconds: Annotated[int, Meta(ge=3_600, le=7_776_000)] = 7_776_000
    """The longest that input, output and log of a job that ended are kept, whatever it asks for."""
    open_jobs_per_account: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    """How many jobs of one account may wait or be worked on at once."""
    open_graphs_per_account: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """How many graphs of one account may be under way at once."""
    open_studies_per_account: Annotated[int, Meta(ge=1, le=10_000)] = 20
    """How many studies of one account may be under way at once."""
    model_ranks: list[Annotated[str, Meta(min_length=1, max_length=200)]] = []
    """Chat models from the best to the least, by which `auto:best` and `auto:balanced` of `/v1` choose."""
    canary_account: Annotated[str, Meta(max_length=64)] = ""
    """The account that pays for canary jobs, and does nothing else; empty for none, and no canaries."""
    canary_hours: Annotated[float, Meta(ge=0, le=720)] = 0.0
    """How often each kind of an idle miner gets a canary job, in hours; 0 for never."""
    canaries_per_day: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """How many canary jobs are sent in 24 hours at most: times `canary_max_price`, the most that they cost in a day."""
    canary_max_price: Annotated[str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,8})?\Z")] = "0.01"
    """The most that one canary job may cost, in AITBC."""
    canary_commands: dict[str, Annotated[str, Meta(max_length=1000)]] = {}
    """By the words of a command, with blanks between, what it writes for the line that canaries send: `wc -w` writes 6.
    Of those a miner that allows the program is asked one; empty for no canaries of `command`."""
    canary_containers: dict[str, Annotated[str, Meta(max_length=1000)]] = {}
    """The same by the name of an image and the words of its command; empty for no canaries of `container`."""
    chat_tolerances: dict[str, Annotated[float, Meta(gt=0, le=2)]] = {}
    """By model, up to which mean of differences the tokens of a chat's answer are those of an honest engine, as
    `aitbc verify calibrate` measures it (`passes`). Only chats with these models can be verified by `recheck` and
    `sampled`."""
    grace_seconds: float = 35.0
    """After this process was frozen or just started: how long leases that seem to have ended are left alone."""
