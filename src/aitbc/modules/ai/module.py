"""The ai module, as the app mounts it."""

from aitbc.kernel.module import Module, PeriodicTask
from aitbc.modules.ai.api import AiApi
from aitbc.modules.ai.legacy.health import LegacyHealth
from aitbc.modules.ai.legacy.jobs import CoordinatorJobLists, CoordinatorJobs, LegacyJobs, OperatorJobs, ReinforcedJobs
from aitbc.modules.ai.legacy.media import MediaController
from aitbc.modules.ai.legacy.media_agents import MediaAgents
from aitbc.modules.ai.legacy.payments import CoordinatorPayments
from aitbc.modules.ai.legacy.refused import REFUSED_COORDINATOR
from aitbc.modules.ai.legacy.services import ServiceController
from aitbc.modules.ai.legacy.tuning import SessionController, TuningController
from aitbc.modules.ai.models.tables import Base
from aitbc.modules.ai.protocols.anthropic_messages import AnthropicMessages
from aitbc.modules.ai.protocols.errors import DIALECT
from aitbc.modules.ai.protocols.not_offered import NotOfferedYet
from aitbc.modules.ai.protocols.openai_batches import OpenAiBatches
from aitbc.modules.ai.protocols.openai_chat import OpenAiChat
from aitbc.modules.ai.protocols.openai_completions import OpenAiCompletions
from aitbc.modules.ai.protocols.openai_embeddings import OpenAiEmbeddings
from aitbc.modules.ai.protocols.openai_files import OpenAiFiles
from aitbc.modules.ai.protocols.openai_models import OpenAiModels
from aitbc.modules.ai.protocols.openai_responses import OpenAiResponses
from aitbc.modules.ai.protocols.rerank import Reranking
from aitbc.modules.ai.routes.aliases import AliasController
from aitbc.modules.ai.routes.artifacts import ArtifactController
from aitbc.modules.ai.routes.graphs import GraphController
from aitbc.modules.ai.routes.jobs import JobController
from aitbc.modules.ai.routes.market import KindController, ModelController, QuoteController, StatisticsController
from aitbc.modules.ai.routes.payments import PaymentController
from aitbc.modules.ai.routes.placements import PlacementController
from aitbc.modules.ai.routes.rate_limits import RateLimitController
from aitbc.modules.ai.routes.runs import RunController
from aitbc.modules.ai.routes.schedules import ScheduleController
from aitbc.modules.ai.routes.studies import StudyController
from aitbc.modules.ai.routes.verification import VerificationController
from aitbc.modules.ai.service import AiService, AiSettings
from aitbc.modules.ai.service.aliases import Aliases
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.attended_runs import AttendedRuns
from aitbc.modules.ai.service.auto_models import AutoModels
from aitbc.modules.ai.service.batches.batches import Batches
from aitbc.modules.ai.service.checks.trusted_miners import TrustedMiners
from aitbc.modules.ai.service.explain import Explanations
from aitbc.modules.ai.service.graphs.events import GraphEvents
from aitbc.modules.ai.service.graphs.graphs import Graphs
from aitbc.modules.ai.service.graphs.schedules import Schedules
from aitbc.modules.ai.service.job_events import JobEvents
from aitbc.modules.ai.service.job_logs import JobLogs
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.payment_audit import PaymentAudit
from aitbc.modules.ai.service.placements import PlacementPlans
from aitbc.modules.ai.service.quotes import Quotes
from aitbc.modules.ai.service.rate_gate import RateGate
from aitbc.modules.ai.service.rate_limits import RateLimits
from aitbc.modules.ai.service.retention import Retention
from aitbc.modules.ai.service.runs import Runs
from aitbc.modules.ai.service.served_models import ServedModels
from aitbc.modules.ai.service.statistics import Statistics
from aitbc.modules.ai.service.stops import Stops
from aitbc.modules.ai.service.stored_files import Files
from aitbc.modules.ai.service.studies.studies import Studies
from aitbc.modules.ai.service.submissions import Submissions
from aitbc.modules.ai.service.terms import AI_PARAMETERS
from aitbc.modules.ai.service.text_runs import TextRuns
from aitbc.modules.gpu.events import BookingEnded, BookingProlonged, BookingStarted, MinerChanged
from aitbc.modules.marketplace.events import OfferChanged, TermsChanged
from aitbc.modules.trading.api import TradingApi

module = Module(
    name="ai",
    api=AiApi,
    service=AiService,
    metadata=Base.metadata,
    routes=(
        JobController,
        RunController,
        RateLimitController,
        AliasController,
        KindController,
        ModelController,
        QuoteController,
        StatisticsController,
        ArtifactController,
        PaymentController,
        VerificationController,
        GraphController,
        ScheduleController,
        StudyController,
        PlacementController,
    ),
    needs={"trading": TradingApi},
    handles={
        MinerChanged: AiService.on_miners_changed,
        BookingStarted: AiService.on_bookings_started,
        BookingProlonged: AiService.on_bookings_prolonged,
        BookingEnded: AiService.on_bookings_ended,
        OfferChanged: AiService.on_offers_changed,
        TermsChanged: AiService.on_terms_changed,
    },
    parts={
        "submissions": Submissions,
        "quotes": Quotes,
        "statistics": Statistics,
        "served_models": ServedModels,
        "jobs": Jobs,
        "job_events": JobEvents,
        "job_logs": JobLogs,
        "explanations": Explanations,
        "stops": Stops,
        "runs": Runs,
        "text_runs": TextRuns,
        "attended_runs": AttendedRuns,
        "auto_models": AutoModels,
        "retention": Retention,
        "rate_gate": RateGate,
        "rate_limits": RateLimits,
        "aliases": Aliases,
        "artifacts": Artifacts,
        "files": Files,
        "batches": Batches,
        "payment_audit": PaymentAudit,
        "trusted_miners": TrustedMiners,
        "graphs": Graphs,
        "graph_events": GraphEvents,
        "schedules": Schedules,
        "studies": Studies,
        "placement_plans": PlacementPlans,
    },
    scopes={
        "live": ("jobs:create", "jobs:read", "limits:write", "artifacts:write", "artifacts:read"),
        "miner": ("artifacts:write", "artifacts:read"),
    },
    settings=AiSettings,
    parameters=AI_PARAMETERS,
    protocol=(
        OpenAiModels,
        OpenAiChat,
        OpenAiCompletions,
        OpenAiEmbeddings,
        Reranking,
        OpenAiResponses,
        AnthropicMessages,
        OpenAiFiles,
        OpenAiBatches,
        NotOfferedYet,
    ),
    dialect=DIALECT,
    legacy=(LegacyHealth, LegacyJobs, OperatorJobs, MediaController, TuningController),
    legacy_coordinator=(
        CoordinatorJobs,
        CoordinatorJobLists,
        CoordinatorPayments,
        ServiceController,
        ReinforcedJobs,
        SessionController,
        MediaAgents,
        *REFUSED_COORDINATOR,
    ),
    periodic_tasks=(
        PeriodicTask(run=AiService.sweep, every_seconds=1.0),
        PeriodicTask(run=AiService.return_orphaned_leases, every_seconds=1.0, leader=False),
        PeriodicTask(run=AiService.refresh_rate_limits, every_seconds=1.0, leader=False),
        PeriodicTask(run=AiService.drive_graphs, every_seconds=1.0),
        PeriodicTask(run=AiService.refresh_aliases, every_seconds=1.0, leader=False),
        PeriodicTask(run=AiService.drive_studies, every_seconds=1.0),
        PeriodicTask(run=AiService.drive_batches, every_seconds=1.0),
        PeriodicTask(run=AiService.begin_schedules, every_seconds=5.0),
        PeriodicTask(run=AiService.send_canaries, every_seconds=10.0),
        PeriodicTask(run=AiService.reconcile_holds, every_seconds=30.0),
        PeriodicTask(run=AiService.prolong_holds, every_seconds=30.0),
        PeriodicTask(run=AiService.tidy, every_seconds=60.0),
    ),
)
