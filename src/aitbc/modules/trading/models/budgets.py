"""The rules of budgets, over rows that a transaction has locked: what a hold may reserve, and what it gives back.

A hold counts in the period in which it was placed, whenever it ends.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.api import BudgetExceeded

PERIODS = ("day", "month", "total")
EVER = date(1970, 1, 1)
"""The one period of a budget that is never renewed."""


class Budget(Struct, frozen=True):
    """A limit on what an account may spend in a period: all of it, by one key, on one model, or by one key on one."""

    id: str
    account: str
    key: str | None
    model: str | None
    period: str
    limit_units: int

    def covers(self, key: str | None, model: str | None) -> bool:
        """Whether what this key spends on this model counts."""
        return self.key in (None, key) and self.model in (None, model)


class BudgetUse(Struct):
    """What was reserved and spent of a budget in one period."""

    budget: str
    period_start: date
    held_units: int = 0
    spent_units: int = 0


def period_of(period: str, at: datetime) -> date:
    """The first day (UTC) of the period that a time is in."""
    day = at.astimezone(UTC).date()
    return {"day": day, "month": day.replace(day=1), "total": EVER}[period]


def resets_at(period: str, at: datetime) -> datetime | None:
    """When the next period begins; none for a budget that is never renewed."""
    first = period_of(period, at)
    if period == "total":
        return None
    following = first + timedelta(days=1 if period == "day" else 32)
    following = following if period == "day" else following.replace(day=1)
    return datetime(following.year, following.month, following.day, tzinfo=UTC)


@dataclass(slots=True)
class Budgets:
    """The budgets that a book of the ledger is under."""

    of_account: dict[str, list[Budget]] = field(default_factory=dict)
    uses: dict[tuple[str, date], BudgetUse] = field(default_factory=dict)
    """By budget and period, as they were found and as this book leaves them."""
    changed: set[tuple[str, date]] = field(default_factory=set)

    def wanted(self, marks: Iterable[str | None], at: datetime) -> list[tuple[str, date]]:
        """The uses that holds with these marks, and new holds of the known accounts, may change."""
        keys = {key for mark in marks for key in _read(mark)}
        keys |= {(one.id, period_of(one.period, at)) for found in self.of_account.values() for one in found}
        return sorted(keys)

    def reserve(self, account: str, key: str | None, model: str | None, amount: int, at: datetime) -> str | None:
        """Count a new hold; answers the mark that it carries. Raises `BudgetExceeded` and then counts nothing."""
        covering = [budget for budget in self.of_account.get(account, ()) if budget.covers(key, model)]
        return self._reserve(covering, amount, at) if covering else None

    def reserve_more(self, account: str, mark: str | None, before: int, amount: int, at: datetime) -> str | None:
        """Count a hold of `before` anew, as one of `amount`. Raises `BudgetExceeded` and then changes nothing."""
        if mark is None:
            return None
        under = {budget for budget, _ in _read(mark)}
        self.release(mark, before, 0)
        try:
            return self._reserve([one for one in self.of_account.get(account, ()) if one.id in under], amount, at)
        except BudgetExceeded:
            for key in _read(mark):
                self._use(key).held_units += before
            raise

    def release(self, mark: str | None, amount: int, spent: int) -> None:
        """A hold ended with so much of it spent."""
        for key in _read(mark):
            use = self._use(key)
            use.held_units -= amount
            use.spent_units += spent

    def _reserve(self, covering: Sequence[Budget], amount: int, at: datetime) -> str | None:
        keys = [(budget.id, period_of(budget.period, at)) for budget in covering]
        for budget, key in zip(covering, keys, strict=True):
            use = self.uses.get(key, BudgetUse(*key))
            remaining = budget.limit_units - use.held_units - use.spent_units
            if amount > remaining:
                raise _exceeded(budget, max(remaining, 0), amount, at)
        for key in keys:
            self._use(key).held_units += amount
        return " ".join(f"{budget}@{start}" for budget, start in keys) or None

    def _use(self, key: tuple[str, date]) -> BudgetUse:
        self.changed.add(key)
        return self.uses.setdefault(key, BudgetUse(*key))


def _read(mark: str | None) -> list[tuple[str, date]]:
    """Budgets and periods of the mark of a hold."""
    parts = (word.split("@") for word in (mark or "").split())
    return [(budget, date.fromisoformat(start)) for budget, start in parts]


def _exceeded(budget: Budget, remaining: int, amount: int, at: datetime) -> BudgetExceeded:
    until = resets_at(budget.period, at)
    renewed = "It is not renewed." if until is None else f"It is renewed at {until:%Y-%m-%dT%H:%M:%SZ}."
    limit = f"{render(budget.limit_units)} AITBC" + ("" if budget.period == "total" else f" a {budget.period}")
    return BudgetExceeded(
        f"The budget {budget.id} of {limit} has {render(remaining)} left; this may cost {render(amount)}. {renewed}",
        budget=budget.id,
        limit=render(budget.limit_units),
        remaining=render(remaining),
        needed=render(amount),
        resets_at=until,
    )
