"""The gpu module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.kernel.parameters import pause_of
from aitbc.modules.ai.api import AiApi
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.gpu.legacy.bookings import BookingOfGpuController, CoordinatorBookings
from aitbc.modules.gpu.legacy.coordinator_devices import CoordinatorDevices, CoordinatorFit
from aitbc.modules.gpu.legacy.devices import DeviceController
from aitbc.modules.gpu.legacy.fleet import CoordinatorFleet
from aitbc.modules.gpu.legacy.health import LegacyHealth
from aitbc.modules.gpu.legacy.listings import CoordinatorMarket, ListedGpuController
from aitbc.modules.gpu.legacy.miners import CoordinatorMinerController, LegacyMinerController
from aitbc.modules.gpu.models.tables import Base
from aitbc.modules.gpu.routes.bookings import BookingController, ListingController
from aitbc.modules.gpu.routes.enrolment_codes import EnrolmentCodeController
from aitbc.modules.gpu.routes.machines import MachineController, MachineSocketController, MachineWorkController
from aitbc.modules.gpu.routes.miners import EnrolmentController, MinerController
from aitbc.modules.gpu.routes.proofs import HardwareController, ProofController
from aitbc.modules.gpu.routes.work import WorkController
from aitbc.modules.gpu.service import GpuService, GpuSettings
from aitbc.modules.gpu.service.booking_receipts import BookingReceipts
from aitbc.modules.gpu.service.bookings import Bookings
from aitbc.modules.gpu.service.earned import Earned
from aitbc.modules.gpu.service.enrolment import Enrolment
from aitbc.modules.gpu.service.enrolment_codes import EnrolmentCodes
from aitbc.modules.gpu.service.heartbeats import Heartbeats
from aitbc.modules.gpu.service.listings import Listings
from aitbc.modules.gpu.service.machine_relay import MachineRelay
from aitbc.modules.gpu.service.machines import Machines
from aitbc.modules.gpu.service.miners import Miners
from aitbc.modules.gpu.service.proofs import Proofs
from aitbc.modules.gpu.service.readings import Readings
from aitbc.modules.gpu.service.reputation import Reputations
from aitbc.modules.gpu.service.retention import RETENTION_PARAMETERS
from aitbc.modules.gpu.service.work import MinerWork
from aitbc.modules.trading.api import TradingApi

module = Module(
    name="gpu",
    api=GpuApi,
    service=GpuService,
    metadata=Base.metadata,
    routes=(
        EnrolmentController,
        EnrolmentCodeController,
        MinerController,
        WorkController,
        ProofController,
        HardwareController,
        ListingController,
        BookingController,
        MachineController,
        MachineWorkController,
        MachineSocketController,
    ),
    needs={"ai": AiApi, "trading": TradingApi},
    parts={
        "miners": Miners,
        "earned": Earned,
        "enrolment": Enrolment,
        "enrolment_codes": EnrolmentCodes,
        "heartbeats": Heartbeats,
        "work": MinerWork,
        "reputations": Reputations,
        "readings": Readings,
        "proofs": Proofs,
        "listings": Listings,
        "bookings": Bookings,
        "booking_receipts": BookingReceipts,
        "machines": Machines,
        "machine_relay": MachineRelay,
    },
    handles={AttemptEnded: GpuService.on_attempts_ended},
    scopes={"live": ("miners:read", "miners:enrol", "miners:manage"), "miner": ("miners:work",)},
    settings=GpuSettings,
    parameters=(pause_of("gpu"), *RETENTION_PARAMETERS),
    legacy=(
        LegacyHealth,
        LegacyMinerController,
        DeviceController,
        ListedGpuController,
        BookingOfGpuController,
    ),
    legacy_coordinator=(
        CoordinatorMinerController,
        CoordinatorFleet,
        CoordinatorDevices,
        CoordinatorFit,
        ListedGpuController,
        BookingOfGpuController,
        CoordinatorMarket,
        CoordinatorBookings,
    ),
    periodic_tasks=(
        PeriodicTask(run=GpuService.watch, every_seconds=5.0),
        PeriodicTask(run=GpuService.keep_legacy_leases, every_seconds=10.0),
        PeriodicTask(run=GpuService.reconcile_bookings, every_seconds=5.0),
        PeriodicTask(run=GpuService.keep_readings, every_seconds=60.0),
        PeriodicTask(run=GpuService.expire_proofs, every_seconds=60.0),
        PeriodicTask(run=GpuService.look_at_machines, every_seconds=1.0, leader=False),
        PeriodicTask(run=GpuService.sweep_machines, every_seconds=60.0),
    ),
)
