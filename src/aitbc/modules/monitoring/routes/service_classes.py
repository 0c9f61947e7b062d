"""Service classes, and what accounts bought of them."""

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.monitoring.models.declarations import Key, UnusableDeclaration
from aitbc.modules.monitoring.models.service_classes import WantedServiceClass
from aitbc.modules.monitoring.routes.monitors import WRITE
from aitbc.modules.monitoring.service.class_purchases import (
    ClassBoughtAhead,
    ClassPurchase,
    ClassPurchaseNotFound,
    ClassPurchaseRefused,
    ClassPurchases,
)
from aitbc.modules.monitoring.service.class_renewals import ClassPurchaseOver, ClassRenewals
from aitbc.modules.monitoring.service.monitors import DeclaredElsewhere
from aitbc.modules.monitoring.service.service_classes import (
    ServiceClass,
    ServiceClasses,
    ServiceClassExists,
    ServiceClassNotFound,
    TooManyServiceClasses,
)
from aitbc.modules.trading.api import BudgetExceeded, InsufficientFunds

CLASSES_READ, CLASSES_WRITE = "classes:read", "classes:write"


class BuyClass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which class to buy a period of."""

    service_class: Key
    """The class, by its name. For example `chat-gold`."""
    renews: bool = False
    """Whether the next period is bought by itself, at the same price, for as long as the class is sold.
    For example `false`."""


class ChooseRenewal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a class is renewed."""

    renews: bool
    """Whether the next period is bought by itself, shortly before this one ends. For example `true`."""


class ServiceClassController(Controller):
    """What is promised, for what price."""

    path = "/service-classes"
    tags = ("monitoring",)

    @post(
        "/",
        operation_id="create_service_class",
        summary="Declare a service class",
        opt={
            "permission": WRITE,
            "errors": (ServiceClassExists, TooManyServiceClasses, UnusableDeclaration, InvalidAmount),
        },
    )
    async def create(
        self,
        service_classes: NamedDependency[ServiceClasses],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[WantedServiceClass],
    ) -> ServiceClass:
        """Declare what share of a buyer's jobs is to be in time, what a period of that costs, and what is credited."""
        return await service_classes.create(who, data, once)

    @get("/", operation_id="list_service_classes", summary="List service classes", opt={"permission": CLASSES_READ})
    async def list_classes(self, service_classes: NamedDependency[ServiceClasses]) -> Page[ServiceClass]:
        """List the classes that can be bought, by name; one page has them all."""
        return Page(data=list(await service_classes.list_all()))

    @delete(
        "/{service_class:str}",
        operation_id="delete_service_class",
        summary="Withdraw a service class",
        status_code=200,
        opt={"permission": WRITE, "idempotency": "natural", "errors": (ServiceClassNotFound, DeclaredElsewhere)},
    )
    async def remove(
        self,
        service_classes: NamedDependency[ServiceClasses],
        who: NamedDependency[Principal],
        service_class: FromPath[str],
    ) -> ServiceClass:
        """Withdraw a class, by id or name: nobody buys it any more, and what was bought is judged as it was sold."""
        return await service_classes.remove(who, service_class)


class ClassPurchaseController(Controller):
    """What was bought of service classes."""

    path = "/class-purchases"
    tags = ("monitoring",)

    @post(
        "/",
        operation_id="buy_service_class",
        summary="Buy a period of a service class",
        opt={
            "permission": CLASSES_WRITE,
            "errors": (
                *(ServiceClassNotFound, ClassBoughtAhead, ClassPurchaseRefused),
                *(InsufficientFunds, BudgetExceeded),
            ),
        },
    )
    async def buy(
        self,
        class_purchases: NamedDependency[ClassPurchases],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[BuyClass],
    ) -> ClassPurchase:
        """Buy a period, from now on or from the end of the one you have; its price is set aside until it is judged.

        Then the operator is paid, or what the class promises to credit comes back to you first.
        """
        return await class_purchases.buy(who, data.service_class, once, renews=data.renews)

    @put(
        "/{class_purchase:str}/renewal",
        operation_id="choose_class_renewal",
        summary="Say whether a service class is renewed",
        opt={
            "permission": CLASSES_WRITE,
            "idempotency": "natural",
            "errors": (ClassPurchaseNotFound, ClassPurchaseOver),
        },
    )
    async def choose_renewal(
        self,
        class_renewals: NamedDependency[ClassRenewals],
        who: NamedDependency[Principal],
        class_purchase: FromPath[str],
        data: JSONBody[ChooseRenewal],
    ) -> ClassPurchase:
        """Say whether the next period is bought by itself, half an hour before this one ends, at the same price.

        Where its price is not there it is tried until the period would begin. When a renewal ends without your word,
        the event `monitoring.class_renewal_ended` says why.
        """
        return await class_renewals.choose(who, class_purchase, renews=data.renews)

    @get(
        "/",
        operation_id="list_class_purchases",
        summary="List what was bought of service classes",
        opt={"permission": CLASSES_READ, "errors": (InvalidCursor,)},
    )
    async def list_purchases(
        self,
        class_purchases: NamedDependency[ClassPurchases],
        who: NamedDependency[Principal],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[ClassPurchase]:
        """List what your account bought, for an admin what everybody bought, newest first."""
        found = await class_purchases.list_page(who, limit + 1, after_id("class purchases", cursor, "sbuy"))
        return Page.of("class purchases", found, limit, lambda purchase: purchase.id)

    @get(
        "/{class_purchase:str}",
        operation_id="get_class_purchase",
        summary="Get what was bought of a service class",
        opt={"permission": CLASSES_READ, "errors": (ClassPurchaseNotFound,)},
    )
    async def get_purchase(
        self,
        class_purchases: NamedDependency[ClassPurchases],
        who: NamedDependency[Principal],
        class_purchase: FromPath[str],
    ) -> ClassPurchase:
        """Get one purchase; while it goes on, with how many jobs were in time until now, and how many were not."""
        return await class_purchases.get(who, class_purchase)
