"""The settings of monitoring, table `[monitoring]` of the configuration."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from aitbc.kernel.primitives.secret import Secret

Address = Annotated[str, Meta(pattern=r"^[!-?A-~]+@[!-?A-~]+\Z", max_length=254)]
"""An e-mail address."""


class MonitoringSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is watched, and who is told."""

    file: Path | None = None
    """A TOML file that declares monitors, rules, objectives and maintenance; it is read again when it changes."""
    interval_seconds: Annotated[float, Meta(ge=1, le=3600)] = 15.0
    """How often the installation's own parts are looked at, and its figures read."""
    slow_seconds: Annotated[float, Meta(gt=0, le=60)] = 1.0
    """From how long an answer of the installation's own parts on they are degraded."""
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 5.0
    """How long a look at one of them may take."""
    status_page: bool = False
    """Whether the summary of what is public is told without a key."""
    public_url: Annotated[str, Meta(pattern=r"^https?://[^\s?#]+\Z", max_length=2048)] | None = None
    """Where people find this server, for links in mails: `https://aitbc.example.org`."""
    mail_to: Annotated[list[Address], Meta(max_length=20)] = field(default_factory=list)
    """Who gets alerts by e-mail; nobody unless `smtp_host` is set too."""
    mail_from: Address = "aitbc@localhost"
    """The sender of those mails."""
    smtp_host: Annotated[str, Meta(min_length=1, max_length=253)] | None = None
    """The mail server that takes them."""
    smtp_port: Annotated[int, Meta(ge=1, le=65535)] = 587
    """Its port."""
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection to it is kept private; a password is never sent over one that is not."""
    smtp_user: Annotated[str, Meta(max_length=254)] | None = None
    """The user to sign in as, if it wants one."""
    smtp_password: Secret | None = None
    """Its password."""
