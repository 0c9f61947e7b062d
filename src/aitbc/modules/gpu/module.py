"""The gpu module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.ai.api import AiApi
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.gpu.legacy.bookings import BookingOfGpuController, CoordinatorBookings
from aitbc.modules.gpu.legacy.coordinator import CoordinatorFleet, CoordinatorMiners
from aitbc.modules.gpu.legacy.devices import DeviceController
from aitbc.modules.gpu.legacy.edge import EdgeController
from aitbc.modules.gpu.legacy.market import TransactionController
from aitbc.modules.gpu.legacy.miners import OlderMinerController
from aitbc.modules.gpu.legacy.public import PublicController
from aitbc.modules.gpu.legacy.registry import CoordinatorMarket, ListedGpuController
from aitbc.modules.gpu.models.tables import Base
from aitbc.modules.gpu.routes.bookings import BookingController, ListingController
from aitbc.modules.gpu.routes.miners import EnrolmentController, MinerController
from aitbc.modules.gpu.routes.work import WorkController
from aitbc.modules.gpu.service import GpuService, GpuSettings
from aitbc.modules.trading.api import TradingApi

module = Module(
    name="gpu",
    api=GpuApi,
    service=GpuService,
    metadata=Base.metadata,
    routes=(EnrolmentController, MinerController, WorkController, ListingController, BookingController),
    needs={"ai": AiApi, "trading": TradingApi},
    handles={AttemptEnded: GpuService.on_attempts_ended},
    scopes={"live": ("miners:read", "miners:enrol", "miners:manage"), "miner": ("miners:work",)},
    settings=GpuSettings,
    legacy=(
        PublicController,
        OlderMinerController,
        DeviceController,
        TransactionController,
        ListedGpuController,
        BookingOfGpuController,
    ),
    legacy_coordinator=(
        CoordinatorMiners,
        CoordinatorFleet,
        EdgeController,
        ListedGpuController,
        BookingOfGpuController,
        CoordinatorMarket,
        CoordinatorBookings,
    ),
    periodic_tasks=(
        PeriodicTask(run=GpuService.watch, every_seconds=5.0),
        PeriodicTask(run=GpuService.keep_older, every_seconds=10.0),
        PeriodicTask(run=GpuService.mind_bookings, every_seconds=5.0),
        PeriodicTask(run=GpuService.expire_orders, every_seconds=60.0),
    ),
)
