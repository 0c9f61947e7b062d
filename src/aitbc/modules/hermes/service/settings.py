"""The settings of hermes, table `[hermes]` of the configuration."""

from typing import Annotated

from msgspec import Meta, Struct

from aitbc.kernel.parameters import Parameter


class HermesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What agents and their runs may use."""

    public_url: Annotated[str, Meta(pattern=r"^https?://[^\s?#]+\Z", max_length=2048)] | None = None
    """Where clients find this server, as its agents' cards say it; left out, where the card was asked for."""
    agents_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """How many agents one account may have."""
    open_runs_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """How many runs of one account may be under way at once, those that agents began for it too."""
    depth_max: Annotated[int, Meta(ge=0, le=16)] = 8
    """How many agents one below the other may take part, whatever their owners allow."""
    online_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 90.0
    """For how long a heartbeat, or a look at an endpoint that went well, counts."""
    probe_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    """How often an agent's endpoint is looked at."""
    call_seconds: Annotated[float, Meta(gt=0, le=300)] = 20.0
    """How long one request to an agent's endpoint may take."""
    kept_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    """How long messages that were sent or given up are kept."""
    edges_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """How many edges one account may have."""
    deployments_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """How many deployments one account may have that have not ended."""
    report_seconds: Annotated[float, Meta(ge=0.05, le=20)] = 10.0
    """How often an edge reports; one that is silent for 30 seconds is not healthy."""


KEPT_DAYS = "hermes.kept_days"
HERMES_PARAMETERS = (
    Parameter(
        name=KEPT_DAYS,
        text="How long messages that were sent or given up are kept.",
        unit="days",
        least=1,
        most=3650,
        default=30,
        setting=("kept_days",),
    ),
)
