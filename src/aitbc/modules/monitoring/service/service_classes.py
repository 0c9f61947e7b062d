"""Service classes: declares what can be bought, and withdraws it."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct, structs, to_builtins
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound, TooMany
from aitbc.kernel.primitives.ids import is_id, new_id
from aitbc.modules.monitoring.api import OriginName
from aitbc.modules.monitoring.models.class_tables import ServiceClassRow
from aitbc.modules.monitoring.models.declarations import API, FILE
from aitbc.modules.monitoring.models.service_classes import WantedServiceClass, check_class, price_units_of
from aitbc.modules.monitoring.service.monitors import DeclaredElsewhere

CLASSES_MAX = 200
"""How many classes there may be at a time."""


class ServiceClassNotFound(NotFound):
    """There is no such service class, or it is not sold any more."""

    code = "service_class_not_found"


class ServiceClassExists(Conflict):
    """There is a service class of this name already; withdraw it first."""

    code = "service_class_exists"


class TooManyServiceClasses(TooMany):
    """There are as many service classes as there may be; withdraw one first."""

    code = "too_many_service_classes"


class ServiceClass(Struct, frozen=True, kw_only=True):
    """What is promised about a kind of work for a price, and what comes back where it is not kept."""

    id: str
    """The class. For example `scls_01k0000000000000000000000a`."""
    name: str
    """Its name, unique. For example `chat-gold`."""
    work: str
    """The kind of work. For example `chat`."""
    start_seconds: int | None
    """Within how many seconds of submission a miner is to begin a job; null for no such promise. For example `5`."""
    first_text_seconds: int | None
    """Within how many seconds of submission the first piece of its text is to come; null for no such promise.
    For example `8`."""
    finish_seconds: int
    """Within how many seconds of its submission a job is to succeed. For example `60`."""
    target: float
    """The share of the buyer's jobs that are to be so. For example `0.99`."""
    period_days: int
    """How many days one purchase lasts. For example `30`."""
    price: str
    """What one period costs, in AITBC. For example `5`."""
    credit_percent: int
    """How much of the price comes back for a period in which the target is missed. For example `100`."""
    origin: OriginName
    """Where it is declared: `file` or `api`. For example `api`."""
    created_at: datetime
    """When it was declared."""


class ServiceClasses:
    """Declares service classes, lists and withdraws them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, who: Principal, wanted: WantedServiceClass, once: IdempotencyKey) -> ServiceClass:
        """Declare a class that accounts may buy from now on.

        Raises `ServiceClassExists`, `TooManyServiceClasses`, `UnusableDeclaration`, `InvalidAmount`.
        """
        check_class(wanted)
        async with self._db.unit_of_work() as uow:
            if (stored := await uow.replay(once, ServiceClass)) is not None:
                return stored
            existing = ServiceClassRow.removed_at.is_(None)
            named = select(ServiceClassRow.id).where(existing, ServiceClassRow.name == wanted.name)
            if await uow.session.scalar(named):
                raise ServiceClassExists
            if (await uow.session.scalar(select(func.count()).where(existing)) or 0) >= CLASSES_MAX:
                raise TooManyServiceClasses
            row = _class_row(wanted, API, created_by=who.account)
            uow.add(row)
            await uow.audit(who.account, who.key, "service_class.create", row.name, after=structs.asdict(wanted))
            return await uow.answer(once, class_view(row))

    async def list_all(self) -> Sequence[ServiceClass]:
        """Every class that is sold, by name."""
        query = select(ServiceClassRow).where(ServiceClassRow.removed_at.is_(None)).order_by(ServiceClassRow.name)
        async with self._db.reading() as session:
            return [class_view(row) for row in await session.scalars(query)]

    async def remove(self, who: Principal, service_class: str) -> ServiceClass:
        """Withdraw a class: nobody buys it any more, and what was bought stays.

        Raises `ServiceClassNotFound`, `DeclaredElsewhere`.
        """
        async with self._db.unit_of_work() as uow:
            row = await sold(uow, service_class)
            if row.origin != API:
                raise DeclaredElsewhere
            row.removed_at = now()
            view = class_view(row)
            await uow.audit(who.account, who.key, "service_class.remove", row.name, before=to_builtins(view))
            return view


async def sold(uow: UnitOfWork, service_class: str) -> ServiceClassRow:
    """A class that is sold, by id or name, locked. Raises `ServiceClassNotFound`."""
    by = ServiceClassRow.id if is_id("scls", service_class) else ServiceClassRow.name
    query = select(ServiceClassRow).where(by == service_class, ServiceClassRow.removed_at.is_(None))
    row = (await uow.session.scalars(query.with_for_update())).one_or_none()
    if row is None:
        raise ServiceClassNotFound
    return row


def _class_row(wanted: WantedServiceClass, origin: str, *, created_by: str | None = None) -> ServiceClassRow:
    promised = {name: value for name, value in structs.asdict(wanted).items() if name != "price"}
    made = {"id": new_id("scls"), "price_units": price_units_of(wanted), "created_at": now()}
    return ServiceClassRow(**promised, **made, origin=origin, created_by=created_by)


def sync_classes(uow: UnitOfWork, rows: Mapping[str, ServiceClassRow], wanted: Sequence[WantedServiceClass]) -> None:
    """Sell what a file declares and nothing else of it; a class that is declared anew is another one."""
    for one in wanted:
        row, new = rows.get(one.name), _class_row(one, FILE)
        if row is not None and _promise(row) == _promise(new):
            continue
        if row is not None:
            row.removed_at = now()
        uow.add(new)
    named = {one.name for one in wanted}
    for name, row in rows.items():
        if name not in named:
            row.removed_at = now()


def _promise(row: ServiceClassRow) -> tuple[object, ...]:
    """All that a class promises."""
    limits = (row.start_seconds, row.first_text_seconds, row.finish_seconds, row.target, row.period_days)
    return (row.work, *limits, row.price_units, row.credit_percent)


def class_view(row: ServiceClassRow) -> ServiceClass:
    """A class as callers see it."""
    return ServiceClass(
        id=row.id,
        name=row.name,
        work=row.work,
        start_seconds=row.start_seconds,
        first_text_seconds=row.first_text_seconds,
        finish_seconds=row.finish_seconds,
        target=row.target,
        period_days=row.period_days,
        price=money.render(row.price_units),
        credit_percent=row.credit_percent,
        origin=row.origin,
        created_at=row.created_at,
    )
