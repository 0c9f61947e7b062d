"""The service of ai: its parts, and what it offers to the other modules, to events and to the clock.

Each part has a state of its own; arrows point at the parts that one uses.

    submissions ──► planner ──► artifacts, prices    quotes ──► planner, job_queue, fleet_view, payments
        │              └──────► served_models ──► fleet_view ──► market_asks
        ├─────────► payments ──► trading             explanations ──► jobs, job_queue, fleet_view, durations
        ├─────────► job_queue ──► wakeups            jobs ──► wakeups
        └─────────► live_bookings ◄── booked_jobs    booking_ends ──► attempts
    dispatch ─────► wakeups, attempts                job_events ──► jobs, job_logs, output_parts, wakeups
    lease_watch ──► wakeups
    prospects ────► fleet_view, market_asks          trusted_miners
        └─────────► canaries ──► fleet_view, submissions
    results ──────► answers ──► judgement ──► verification ──► jobs, artifacts, output_parts
        └─────────► attempts ──► payments, wakeups, durations, kind_health
    runs ──► stops ──► attempts ◄── sweeper, holds   retention ──► artifacts, wakeups, jobs
    stops, booking_ends ──► output_parts
    text_runs ────► jobs, job_events, artifacts, stops
    attended_runs ► submissions, runs, text_runs, rate_gate ◄── rate_limits
    batchwork ────► submissions, stops, artifacts, text_runs
    job_payments ──► jobs, stops, payments           kind_statuses ─► fleet_view, durations
    graphs ───────► graph_watch ◄── graph_driver ──► planner, submissions, stops    graph_events, schedules ──► graphs
    studies ──────► planner                          study_driver ──► submissions, stops
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.modules.ai.api import (
    Claim,
    Failure,
    Job,
    JobDetail,
    Lease,
    LeaseStatus,
    LogLine,
    ManyPartsKept,
    MeasuredSpeeds,
    MinerProspects,
    OrderJob,
    Outcome,
    Parts,
    PartsKept,
    Pending,
    Renewal,
    Result,
    ServiceLevel,
    ServiceLimits,
    SubmitFor,
    UnservedModel,
)
from aitbc.modules.ai.batched.claim import Dealer
from aitbc.modules.ai.service.aliases import Aliases
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.attempts import Attempts, HeldLease
from aitbc.modules.ai.service.attended_runs import AttendedRuns
from aitbc.modules.ai.service.auto_models import AutoModels
from aitbc.modules.ai.service.batches.batches import Batches
from aitbc.modules.ai.service.batches.driver import Batchwork
from aitbc.modules.ai.service.batches.intake import Intake
from aitbc.modules.ai.service.batches.line_jobs import LineJobs
from aitbc.modules.ai.service.batches.line_submissions import LineSubmissions
from aitbc.modules.ai.service.batches.outputs import Outputs
from aitbc.modules.ai.service.booked_jobs import BookedJobs
from aitbc.modules.ai.service.booking_ends import BookingEnds
from aitbc.modules.ai.service.checks.answers import CheckedAnswers
from aitbc.modules.ai.service.checks.canaries import Canaries
from aitbc.modules.ai.service.checks.evaluations import Evaluations
from aitbc.modules.ai.service.checks.trusted_miners import TrustedMiners
from aitbc.modules.ai.service.dispatch import Dispatch
from aitbc.modules.ai.service.durations import Durations
from aitbc.modules.ai.service.explain import Explanations
from aitbc.modules.ai.service.fitting_offers import FittingOffers
from aitbc.modules.ai.service.fleet_view import FleetView
from aitbc.modules.ai.service.graphs.driver import GraphDriver
from aitbc.modules.ai.service.graphs.events import GraphEvents
from aitbc.modules.ai.service.graphs.graphs import Graphs
from aitbc.modules.ai.service.graphs.node_jobs import NodeJobs
from aitbc.modules.ai.service.graphs.preparing import Preparation
from aitbc.modules.ai.service.graphs.schedules import Schedules
from aitbc.modules.ai.service.graphs.watch import GraphWatch
from aitbc.modules.ai.service.holds import Holds
from aitbc.modules.ai.service.job_events import JobEvents
from aitbc.modules.ai.service.job_logs import JobLogs
from aitbc.modules.ai.service.job_payments import JobPayments
from aitbc.modules.ai.service.job_queue import JobQueue
from aitbc.modules.ai.service.jobs import Jobs
from aitbc.modules.ai.service.judgement import Judgement
from aitbc.modules.ai.service.kind_status import KindStatuses
from aitbc.modules.ai.service.lease_watch import LeaseWatch
from aitbc.modules.ai.service.limits import Limits
from aitbc.modules.ai.service.live_bookings import LiveBookings
from aitbc.modules.ai.service.market_asks import MarketAsks
from aitbc.modules.ai.service.market_terms import MarketTerms
from aitbc.modules.ai.service.measured_speeds import speeds_of
from aitbc.modules.ai.service.metrics import measure
from aitbc.modules.ai.service.miner_prospects import ProspectsOfMiners
from aitbc.modules.ai.service.named_models import models_of
from aitbc.modules.ai.service.ordered_jobs import OrderedJobs
from aitbc.modules.ai.service.output_parts import OutputParts
from aitbc.modules.ai.service.payment_audit import PaymentAudit
from aitbc.modules.ai.service.payments import Payments
from aitbc.modules.ai.service.placements import PlacementPlans
from aitbc.modules.ai.service.planner import Planner
from aitbc.modules.ai.service.prices import Prices
from aitbc.modules.ai.service.quotes import Quotes
from aitbc.modules.ai.service.rate_gate import RateGate
from aitbc.modules.ai.service.rate_limits import RateLimits
from aitbc.modules.ai.service.recorded_runs import RunRecords
from aitbc.modules.ai.service.results import Completions, Results
from aitbc.modules.ai.service.retention import Retention
from aitbc.modules.ai.service.runs import Runs
from aitbc.modules.ai.service.served_models import ServedModels
from aitbc.modules.ai.service.served_ranks import ServedRanks
from aitbc.modules.ai.service.service_levels import service_level
from aitbc.modules.ai.service.settings import AiSettings
from aitbc.modules.ai.service.speeds import Speeds
from aitbc.modules.ai.service.statistics import Statistics
from aitbc.modules.ai.service.stops import Stops
from aitbc.modules.ai.service.stored_files import Files
from aitbc.modules.ai.service.studies.driver import StudyDriver
from aitbc.modules.ai.service.studies.studies import Studies
from aitbc.modules.ai.service.submissions import Submissions
from aitbc.modules.ai.service.sweeper import Sweeper
from aitbc.modules.ai.service.terms import Terms
from aitbc.modules.ai.service.text_runs import TextRuns
from aitbc.modules.ai.service.unserved_models import UnservedModels
from aitbc.modules.ai.service.verification import Verification
from aitbc.modules.ai.service.wakeups import Wakeups
from aitbc.modules.gpu.events import BookingEnded, BookingProlonged, BookingStarted, MinerChanged
from aitbc.modules.marketplace.events import OfferChanged, TermsChanged
from aitbc.modules.trading.api import TradingApi


class AiService:
    """Sells work and has it done: jobs from their submission to their end, and what miners do with them."""

    _driving: asyncio.Task[None] | None = None

    def __init__(
        self, db: Database, trading: TradingApi, platform: Platform, settings: AiSettings | None = None
    ) -> None:
        settings = settings or AiSettings()
        self.db = db
        ranks = ServedRanks(db)
        dealer = Dealer(db, ranks.note)
        self.wakeups = Wakeups(db, dealer, platform.draining, platform.bus)
        watched = self.wakeups.watched
        self.payments = Payments(db, trading, platform.webhooks)
        self.durations = Durations(db)
        self.attempts = Attempts(db, self.payments, self.wakeups, self.durations)
        self.market_terms = MarketTerms(db)
        self.market_asks = MarketAsks(db, self.wakeups.miners)
        self.fleet_view = FleetView(db, self.wakeups.miners, self.attempts.kind_health, self.market_asks)
        limits = Limits(settings, platform.parameters)
        self.artifacts = Artifacts(db, limits, platform.state_dir / "artifacts")
        # From the client's side
        self.aliases = Aliases(db)
        self.served_models = ServedModels(self.fleet_view, self.aliases, settings.chat_tolerances)
        self.fitting_offers = offers = FittingOffers(db, self.fleet_view, self.market_asks, self.market_terms)
        prices = Prices(Terms(settings, platform.parameters), platform.hooks)
        planner = Planner(self.artifacts, self.served_models, offers, prices)
        self.auto_models = AutoModels(self.served_models, self.fleet_view, planner, settings)
        self.job_queue = JobQueue(db, ranks, self.wakeups, limits)
        self.live_bookings = LiveBookings(db)
        self.submissions = Submissions(self.job_queue, planner, self.payments, self.live_bookings)
        self.booked_jobs = BookedJobs(self.submissions, self.live_bookings)
        self.quotes = Quotes(planner, self.job_queue, self.fleet_view, self.payments)
        self.placement_plans = PlacementPlans(planner, self.fleet_view)
        self.jobs = Jobs(db, self.wakeups)
        self.job_logs = JobLogs(db, self.jobs, watched)
        self.output_parts = OutputParts(db, self.wakeups)
        self.job_events = JobEvents(self.jobs, self.job_logs, self.output_parts, self.wakeups)
        self.explanations = Explanations(self.jobs, self.job_queue, self.fleet_view, self.durations)
        self.statistics, self.run_records = Statistics(db), RunRecords(db)
        self.canaries = Canaries(db, self.fleet_view, self.submissions, settings)
        self.prospects = ProspectsOfMiners(db, self.fleet_view, self.market_asks, self.canaries)
        self.kind_statuses = KindStatuses(self.fleet_view, self.durations)
        self.unserved_models = UnservedModels(db, self.fleet_view)
        # From the miner's side
        self.dispatch = Dispatch(db, dealer, self.wakeups, self.attempts)
        self.lease_watch = LeaseWatch(db, self.wakeups)
        self.trusted_miners = TrustedMiners(db)
        judgement = self._judgement(platform, settings)
        self.answers = CheckedAnswers(db, self.attempts, judgement, self.payments)
        self.results = Results(self.attempts, judgement, Completions(db, self.payments), self.answers)
        self.stops = Stops(db, self.attempts, self.output_parts)
        self.job_payments = JobPayments(self.jobs, self.stops, self.payments)
        self.booking_ends = BookingEnds(db, self.attempts, self.output_parts)
        self.runs = Runs(self.stops, platform.draining)
        self.ordered_jobs = OrderedJobs(self.submissions, self.jobs, self.stops)
        self.text_runs = TextRuns(self.jobs, self.job_events, self.artifacts, self.stops)
        self.rate_gate = RateGate(db, self.aliases)
        self.rate_limits = RateLimits(db, self.rate_gate)
        self.attended_runs = AttendedRuns(self.submissions, self.runs, self.text_runs, self.rate_gate)
        self.payment_audit = PaymentAudit(db, trading)
        self.holds = Holds(db, self.payments, self.attempts)
        self.sweeper = Sweeper(db, self.attempts, self.stops, settings.grace_seconds)
        self.retention = Retention(db, self.artifacts, watched, self.jobs)
        self.graph_watch = GraphWatch()
        self.wakeups.on_job_ended = self.graph_watch.job_ended
        self.graphs = Graphs(db, self.graph_watch, limits)
        self.graph_events = GraphEvents(self.graphs, self.graph_watch, platform.draining)
        self.graph_driver = self._graph_driver(planner)
        self.schedules = Schedules(db, self.graphs, self.graph_watch, platform)
        self.studies = Studies(db, planner, settings.open_studies_per_account)
        self.files, self.batches = Files(db), Batches(db)
        self.batchwork = self._batchwork()
        self.study_driver = StudyDriver(db, self.submissions, self.stops)

    def _graph_driver(self, planner: Planner) -> GraphDriver:
        node_jobs = NodeJobs(self.submissions, self.stops, self.rate_gate)
        return GraphDriver(self.db, Preparation(self.db, planner), node_jobs, self.graph_watch)

    def _batchwork(self) -> Batchwork:
        submissions = LineSubmissions(self.submissions, self.auto_models)
        line_jobs = LineJobs(self.db, self.artifacts, submissions, self.stops)
        outputs = Outputs(self.db, self.artifacts, self.text_runs)
        return Batchwork(self.db, Intake(self.db, self.artifacts), line_jobs, outputs)

    def _judgement(self, platform: Platform, settings: AiSettings) -> Judgement:
        """What judges results; leases that are to evaluate an answer get it from there too."""
        verification = Verification(self.jobs, self.artifacts, self.output_parts, Speeds())
        evaluations = Evaluations(self.db, verification, settings.chat_tolerances)
        self.dispatch.fill_checks = evaluations.fill
        return Judgement(verification, evaluations, platform.hooks)

    async def start(self) -> None:
        """Start the background tasks."""
        await self.wakeups.start()
        await self.rate_gate.refresh()
        self._driving = asyncio.create_task(self.graph_driver.run())
        await self.aliases.refresh()

    async def stop(self) -> None:
        """End the background tasks."""
        if self._driving is not None:
            await cancel_and_wait([self._driving])
        await self.runs.stop()
        await self.output_parts.stop()
        await self.rate_gate.stop()
        await self.wakeups.stop()

    async def measure(self) -> Sequence[Metric]:
        """The metrics of the jobs."""
        return await measure(self.db)

    # The face: what other modules call

    async def claim(self, claim: Claim) -> Sequence[Lease]:
        """Lease up to `slots` matching jobs; waits for one to appear, and answers nothing when none did in time."""
        return await self.dispatch.claim(claim)

    async def leases_of(self, miner: str) -> Sequence[Lease]:
        """The live leases of a miner: for one that lost an answer or was restarted."""
        return await self.dispatch.leases_of(miner)

    async def pending_of(self, miner: str) -> Pending:
        """What is set aside for the jobs of a miner, until they are paid or end otherwise."""
        return await self.payments.pending_of(miner)

    async def prospects_of(self, miner: str, since: datetime) -> MinerProspects:
        """What became of the jobs that were submitted since then, as seen by a miner with what it offers now."""
        return await self.prospects.of(miner, since)

    async def renew(self, miner: str, renewals: Sequence[Renewal]) -> Sequence[LeaseStatus]:
        """Extend leases; answers for each what became of it."""
        return await self.dispatch.renew(miner, renewals)

    async def until_over(self, miner: str, attempts: Sequence[str], wait_seconds: float) -> Sequence[str]:
        """Those of a miner's leases that are over or are to stop; waits for the first, none where none was in time."""
        return await self.lease_watch.until_over(miner, attempts, wait_seconds)

    async def complete(self, result: Result) -> Outcome:
        """Accept a result, pay for it and answer; repeating it answers the same."""
        return await self.results.complete(result)

    async def fail(self, failure: Failure) -> Outcome:
        """Note a failed attempt; the job is tried again or ends."""
        return await self.results.fail(failure)

    async def release(self, miner: str, attempt: str, token: int, reason: str) -> Outcome:
        """Give a lease back unworked: the attempt does not count."""
        return await self.attempts.release(HeldLease(attempt, miner, token), reason)

    async def log(self, miner: str, attempt: str, token: int, lines: Sequence[LogLine]) -> int:
        """Keep log lines; answers the highest sequence that is kept."""
        return await self.job_logs.append(miner, attempt, token, lines)

    async def tell_parts(self, told: Parts) -> PartsKept:
        """Store pieces of an output while it is made, and answer whether to go on."""
        return await self.output_parts.keep(told)

    async def tell_all_parts(self, told: Sequence[Parts]) -> Sequence[ManyPartsKept]:
        """Store pieces of several outputs, and answer whether to go on with each."""
        return await self.output_parts.keep_all(told)

    async def order(self, order: OrderJob) -> Job:
        """Submit a job to a booked GPU; the booking has paid for its time already."""
        return await self.booked_jobs.order(order)

    async def submit_for(self, order: SubmitFor) -> Job:
        """Submit a job in the name of an account."""
        return await self.ordered_jobs.submit(order)

    async def job_of(self, account: str, job: str) -> JobDetail:
        """A job of an account with its output."""
        return await self.ordered_jobs.get(account, job)

    async def recent_jobs(self, account: str, limit: int) -> Sequence[Job]:
        """The jobs of an account from the newest on."""
        return await self.ordered_jobs.recent(account, limit)

    async def cancel_for(self, account: str, key: str, job: str) -> Job:
        """Cancel a job of an account; one that has ended stays as it is."""
        return await self.ordered_jobs.cancel(account, key, job)

    async def end_booking(self, booking: str, account: str) -> int:
        """End all work of a booking; answers how many leases there were."""
        return await self.booking_ends.end(booking, account)

    async def may_read_artifact(self, miner: str, artifact: str) -> bool:
        """Whether a live lease of this miner refers to the artifact."""
        return await self.artifacts.is_leased_to(miner, artifact)

    async def models_of(self, jobs: Sequence[str]) -> Sequence[tuple[str, str]]:
        """Job and model of those of these jobs that named a model."""
        return await models_of(self.db, jobs)

    async def measured_speeds(self, sorts: Sequence[tuple[str, str | None]]) -> Sequence[MeasuredSpeeds]:
        """How fast miners do these kinds of work."""
        return [one for kind, model in sorts if (one := await speeds_of(self.fitting_offers, kind, model)) is not None]

    async def unserved(self) -> Sequence[UnservedModel]:
        """The models that jobs wait for and nobody who is online serves."""
        return await self.unserved_models.waiting()

    async def not_failed(self, jobs: Sequence[str]) -> Sequence[str]:
        """Those of these jobs that have succeeded or may still."""
        return await self.unserved_models.not_failed(jobs)

    async def service_level(
        self, account: str, limits: ServiceLimits, since: datetime, until: datetime
    ) -> ServiceLevel:
        """How the jobs of a kind that an account submitted in a time were served."""
        return await service_level(self.db, account, limits, since, until)

    # The events that ai handles

    async def on_miners_changed(self, uow: UnitOfWork, events: Sequence[MinerChanged]) -> None:
        """Keep the newest version of each miner."""
        await self.fleet_view.apply(uow, events)

    async def on_bookings_started(self, uow: UnitOfWork, events: Sequence[BookingStarted]) -> None:
        """Note the bookings that jobs may name."""
        await self.live_bookings.apply_started(uow, events)

    async def on_bookings_prolonged(self, uow: UnitOfWork, events: Sequence[BookingProlonged]) -> None:
        """Let the jobs of bookings be leased for as long as is paid for."""
        await self.live_bookings.apply_prolonged(uow, events)

    async def on_bookings_ended(self, uow: UnitOfWork, events: Sequence[BookingEnded]) -> None:
        """End what is left of the work of bookings that are over."""
        await self.booking_ends.apply_ended(uow, events)

    async def on_offers_changed(self, uow: UnitOfWork, events: Sequence[OfferChanged]) -> None:
        """Keep what miners ask for their work."""
        await self.market_asks.apply(uow, events)

    async def on_terms_changed(self, uow: UnitOfWork, events: Sequence[TermsChanged]) -> None:
        """Keep with whom accounts deal."""
        await self.market_terms.apply(uow, events)

    # The periodic tasks

    async def sweep(self) -> None:
        """End the leases and the waits whose clocks ran out."""
        await self.answers.end_waits()
        await self.sweeper.sweep()

    async def return_orphaned_leases(self) -> None:
        """Release the leases that were made for callers who had disconnected."""
        await self.dispatch.return_orphaned_leases()

    async def refresh_rate_limits(self) -> None:
        """Read the rate limits that changed, and say how many requests go on under them."""
        await self.rate_gate.refresh()

    async def drive_graphs(self) -> None:
        """Drive on the graphs of which a job has ended, or whose time it is."""
        await self.graph_driver.drive_due()

    async def drive_studies(self) -> None:
        """Drive on the studies that have not ended."""
        await self.study_driver.drive_open()

    async def refresh_aliases(self) -> None:
        """Read the aliases of models that changed."""
        await self.aliases.refresh()

    async def begin_schedules(self) -> None:
        """Begin the graphs whose schedules are due."""
        await self.schedules.begin_due()

    async def send_canaries(self) -> None:
        """Judge the canary jobs that have ended, and send those that are due."""
        await self.canaries.round()

    async def reconcile_holds(self) -> None:
        """Return money that is held for a job which was never written, or which ended unpaid."""
        await self.payments.reconcile()

    async def prolong_holds(self) -> None:
        """Prolong the holds of jobs that are worked on, and of results that wait for their payment."""
        await self.holds.prolong_unpaid()
        await self.holds.prolong_leased()

    async def tidy(self) -> None:
        """Remove inputs, outputs, their parts and logs past their retention, old artifacts, and flows that nobody
        uses."""
        await self.retention.tidy()
        await self.graph_driver.forget()
        await self.files.remove_expired()

    async def drive_batches(self) -> None:
        """Drive on the batches that have not ended."""
        await self.batchwork.drive()
