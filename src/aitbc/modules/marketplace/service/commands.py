"""What can be asked of the market, and what it refuses."""

from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

from aitbc.kernel.primitives.errors import Conflict, FieldError, Invalid, NotFound, TooMany


class MarketOfferChanged(Conflict):
    """This offer has changed since the version that you name; read it again."""

    code = "market_offer_changed"


class MarketOfferNotOpen(Conflict):
    """This offer has expired or was withdrawn."""

    code = "market_offer_not_open"


class MarketOfferBooked(Conflict):
    """Somebody has taken this offer; it can be withdrawn when they are done."""

    code = "market_offer_booked"


class MarketOfferExists(Conflict):
    """Another open offer of this miner is for the same thing; change or withdraw that one."""

    code = "market_offer_exists"


class NotServed(Conflict):
    """This miner does not have what is to be offered, as far as it has told."""

    code = "market_not_served"


class TooManyMarketOffers(TooMany):
    """This account has as many open offers as it may have; withdraw some."""

    code = "too_many_market_offers"


class MarketRuleNotFound(NotFound):
    """This account has no rule by which its miners are put on sale."""

    code = "market_rule_not_found"


class PriceBand(Struct, frozen=True, kw_only=True):
    """The least and the most that a price may follow the use of its owner's miners to."""

    floor_units: int
    ceiling_units: int

    def check(self) -> None:
        """Raises `Invalid` where the ceiling lies under the floor."""
        if self.ceiling_units < self.floor_units:
            raise Invalid(fields=(FieldError("/pricing/ceiling", "Expected no less than `floor`"),))


class MakeOffer(Struct, frozen=True, kw_only=True):
    """An offer of a miner's owner."""

    miner: str
    sells: str
    kind: str | None = None
    model: str | None = None
    device: int | None = None
    price_units: int | None
    """None where `pricing` says it."""
    pricing: PriceBand | None = None
    capacity: int = 1
    min_seconds: int = 60
    max_seconds: int = 2_592_000
    interruptible: bool = False
    note: str = ""
    valid_until: datetime | None = None

    def check(self) -> None:
        """Raises `Invalid` for fields that do not go together."""
        if (self.sells == "work") != (self.kind is not None):
            raise Invalid(fields=(FieldError("/kind", "Expected for work, and for nothing else"),))
        if self.sells != "work" and self.model is not None:
            raise Invalid(fields=(FieldError("/model", "Expected for work only"),))
        if self.sells == "work" and self.device is not None:
            raise Invalid(fields=(FieldError("/device", "Expected for a device only"),))
        if self.sells == "work" and (self.capacity, self.interruptible) != (1, False):
            raise Invalid(
                fields=(FieldError("/capacity", "Expected for a device only: a miner's slots hold its work"),)
            )
        if (self.price_units is None) == (self.pricing is None):
            raise Invalid(fields=(FieldError("/price", "Expected either this or `pricing`"),))
        if self.pricing is not None:
            self.pricing.check()
        if self.max_seconds < self.min_seconds:
            raise Invalid(fields=(FieldError("/max_seconds", "Expected no less than `min_seconds`"),))


class ChangeOffer(Struct, frozen=True, kw_only=True):
    """What is to be different about an offer; what is none stays."""

    version: int
    price_units: int | None = None
    pricing: PriceBand | UnsetType | None = UNSET
    """None for a price that stays until its owner changes it."""
    note: str | None = None
    valid_until: datetime | None = None

    @property
    def changes(self) -> bool:
        """Whether anything is to be different."""
        return self.pricing is not UNSET or (self.price_units, self.note, self.valid_until) != (None, None, None)


class OfferFilter(Struct, frozen=True, kw_only=True):
    """Which offers of a list are wanted, from the newest on."""

    account: str | None = None
    miner: str | None = None
    state: str | None = None
    after: str | None = None
    limit: int = 50


class SetRule(Struct, frozen=True, kw_only=True):
    """How an owner's online miners are put on sale."""

    kinds: dict[str, int]
    """Minor units for one metered unit, by kind of work."""
    price_hour_units: int | None
    valid_seconds: int
    automatic: bool
