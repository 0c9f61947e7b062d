"""When an alert fires and clears: pure rules over one series, with two thresholds and two delays."""

from datetime import datetime, timedelta

from msgspec import Struct, structs

CLEAR, PENDING, FIRING = "clear", "pending", "firing"
ALERT_STATES = (CLEAR, PENDING, FIRING)
GOOD, BAD, BETWEEN, NOTHING = "good", "bad", "between", "nothing"


class Thresholds(Struct, frozen=True, kw_only=True):
    """From where on a value is bad, from where on it is good again, and for how long it must stay so."""

    direction: str
    """`above` or `below`."""
    fire_at: float
    clear_at: float
    """On the good side of `fire_at`, or equal to it."""
    for_seconds: float
    clear_seconds: float

    def judge(self, value: float | None) -> str:
        """Bad beyond `fire_at`, good on the other side of `clear_at`, neither between them; `nothing` of no value."""
        if value is None:
            return NOTHING
        beyond, back = (
            (value > self.fire_at, value <= self.clear_at)
            if self.direction == "above"
            else (value < self.fire_at, value >= self.clear_at)
        )
        return BAD if beyond else GOOD if back else BETWEEN


class AlertStanding(Struct, frozen=True, kw_only=True):
    """How an alert on one series stands."""

    state: str = CLEAR
    bad_since: datetime | None = None
    """Since when the series is bad, or says nothing; none while it is good."""
    good_since: datetime | None = None

    def after(self, judged: str, at: datetime, thresholds: Thresholds) -> "AlertStanding":
        """The standing after one more value.

        It fires when the series was bad, or unknown, for `for_seconds`, and is cleared when it was good for
        `clear_seconds`. What is not known is not good: it never clears an alert.
        """
        if self.state == FIRING:
            if judged != GOOD:
                return structs.replace(self, good_since=None)
            since = self.good_since or at
            if at - since >= timedelta(seconds=thresholds.clear_seconds):
                return AlertStanding()
            return structs.replace(self, good_since=since)
        if judged == GOOD or (judged == BETWEEN and self.state == CLEAR):
            return AlertStanding()
        if judged == BETWEEN:
            return self
        since = self.bad_since or at
        is_due = at - since >= timedelta(seconds=thresholds.for_seconds)
        return AlertStanding(state=FIRING if is_due else PENDING, bad_since=since)
