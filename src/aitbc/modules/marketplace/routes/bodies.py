"""What the routes of the market take."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.marketplace.service.bookings.bookings import BookOffer
from aitbc.modules.marketplace.service.commands import ChangeOffer, MakeOffer, PriceBand, SetRule

Amount = Annotated[
    str,
    Meta(max_length=32, pattern=r"^[0-9]{1,20}(\.[0-9]{1,8})?\Z"),
    Meta(
        description="AITBC as a decimal string with at most eight places.",
        extra_json_schema={"pattern": r"^[0-9]{1,20}(\.[0-9]{1,8})?$", "examples": ["0.05", "10"]},
    ),
]
KindName = Annotated[
    str,
    Meta(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9_]*\Z"),
    Meta(extra_json_schema={"pattern": "^[a-z][a-z0-9_]*$", "examples": ["chat"]}),
]
MinerId = Annotated[
    str,
    Meta(max_length=30, pattern=r"^mnr_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^mnr_[0-9a-z]{26}$", "examples": ["mnr_01k0000000000000000000000a"]}),
]
OfferId = Annotated[
    str,
    Meta(max_length=32, pattern=r"^offer_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^offer_[0-9a-z]{26}$", "examples": ["offer_01k0000000000000000000000a"]}),
]
Moment = Annotated[datetime, Meta(tz=True)]
Seconds = Annotated[int, Meta(ge=1, le=31_536_000)]


class SetMarketPricing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price that follows the use of its owner's miners, linearly."""

    floor: Amount
    """The price while none of their slots is busy, in AITBC. For example `0.5`."""
    ceiling: Amount
    """The price while all are busy. For example `1.2`."""

    def band(self) -> PriceBand:
        """As the service takes it. Raises `InvalidAmount`."""
        return PriceBand(floor_units=parse(self.floor), ceiling_units=parse(self.ceiling))


class MakeMarketOffer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something of a miner of yours, and its price."""

    miner: MinerId
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    sells: Literal["work", "device"]
    """`work` of a kind by the unit, or the time of a `device` by the hour."""
    kind: KindName | None = None
    """Of work, its kind, which the miner must serve. For example `chat`."""
    model: Name | None = None
    """Of work, the model; left out, each that the miner serves and no other offer names. For example `llama-3-8b`."""
    device: Annotated[int, Meta(ge=0, le=1023)] | None = None
    """Of a device, its index; left out, the miner as a whole. For example `0`."""
    price: Amount | None = None
    """In AITBC: of work for one metered unit, of a device for one GPU and one hour. For example `0.8`."""
    pricing: SetMarketPricing | None = None
    """In place of `price`: one that follows the use of your miners."""
    capacity: Annotated[int, Meta(ge=1, le=64)] = 1
    """Of a device, how many of them there are. For example `1`."""
    min_seconds: Seconds = 60
    """Of a device, the shortest time that it is rented for, in seconds. For example `600`."""
    max_seconds: Seconds = 2_592_000
    """Of a device, the longest time that it is rented for, in seconds. For example `86400`."""
    interruptible: bool = False
    """Of a device, whether you may end a rental early, after notice."""
    note: Text = ""
    """What else there is to say. For example `Quiet at night.`."""
    valid_until: Moment | None = None
    """Until when it can be taken, a year from now at most; 30 days when left out."""

    def command(self) -> MakeOffer:
        """As the service takes it. Raises `InvalidAmount`."""
        return MakeOffer(
            miner=self.miner,
            sells=self.sells,
            kind=self.kind,
            model=self.model,
            device=self.device,
            price_units=None if self.price is None else parse(self.price),
            pricing=None if self.pricing is None else self.pricing.band(),
            capacity=self.capacity,
            min_seconds=self.min_seconds,
            max_seconds=self.max_seconds,
            interruptible=self.interruptible,
            note=self.note,
            valid_until=self.valid_until,
        )


class ChangeMarketOffer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different about an offer; what is left out stays."""

    version: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    """The version that this is a change of; refused where the offer has changed since. For example `3`."""
    price: Amount | None = None
    """In AITBC, as when it was made. For example `0.75`."""
    pricing: SetMarketPricing | UnsetType | None = UNSET
    """A price that follows the use of your miners; null for one that only you change."""
    note: Text | None = None
    """What else there is to say. For example `Quiet at night.`."""
    valid_until: Moment | None = None
    """Until when it can be taken, a year from now at most."""

    def command(self) -> ChangeOffer:
        """As the service takes it. Raises `InvalidAmount`."""
        band = self.pricing.band() if isinstance(self.pricing, SetMarketPricing) else self.pricing
        return ChangeOffer(
            version=self.version,
            price_units=None if self.price is None else parse(self.price),
            pricing=band,
            note=self.note,
            valid_until=self.valid_until,
        )


class SetMarketRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How your online miners are put on sale."""

    kinds: Annotated[dict[KindName, Amount], Meta(max_length=32)] = {}
    """AITBC for one metered unit, by kind of work. For example `{"chat": "0.00002"}`."""
    price_hour: Amount | None = None
    """AITBC for the time of a miner's GPUs, for one hour; left out, none is offered. For example `0.8`."""
    valid_days: Annotated[int, Meta(ge=1, le=365)] = 30
    """How long each offer is valid. For example `30`."""
    automatic: bool = True
    """Whether miners that come online later are put on sale too, unless their offer was withdrawn."""

    def command(self) -> SetRule:
        """As the service takes it. Raises `InvalidAmount`, and `Invalid` where nothing is to be sold."""
        if not self.kinds and self.price_hour is None:
            raise Invalid(fields=(FieldError("/kinds", "Expected a price of a kind, or `price_hour`"),))
        return SetRule(
            kinds={kind: parse(price) for kind, price in self.kinds.items()},
            price_hour_units=None if self.price_hour is None else parse(self.price_hour),
            valid_seconds=int(timedelta(days=self.valid_days).total_seconds()),
            automatic=self.automatic,
        )


class BookMarketOffer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The miner of an offer for yourself, for a time."""

    offer: OfferId
    """The offer of a device. For example `offer_01k0000000000000000000000a`."""
    duration_seconds: Seconds
    """For how long, in seconds, within what the offer allows. For example `10800`."""
    max_price: Amount
    """The most that all of its time may cost. For example `2.5`."""
    starts_at: Moment | None = None
    """When it is to start, up to 30 days ahead; left out, now."""
    idle_after_seconds: Annotated[int, Meta(ge=60, le=2_592_000)] | None = None
    """End it by itself after so long without a job at work or a connection to its machine, in seconds. For example `1800`."""
    label: Name | None = None
    """What it is for, in your words. For example `evaluation`."""

    def command(self) -> BookOffer:
        """As the service takes it. Raises `InvalidAmount`."""
        return BookOffer(
            offer=self.offer,
            seconds=self.duration_seconds,
            starts_at=self.starts_at,
            most_units=parse(self.max_price),
            idle_seconds=self.idle_after_seconds,
            label=self.label,
        )


class ProposeBookingPrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another price for an hour of a booking that has begun or is reserved."""

    price_hour: Amount
    """What an hour is to cost, in AITBC. For example `0.9`."""


class AnswerBookingPrice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you say to a proposed price."""

    price_hour: Amount
    """The proposed price that you mean, in AITBC. For example `0.9`."""
    accept: bool
    """Whether it is to hold from the next slice on; if not, the booking goes on at its price."""
