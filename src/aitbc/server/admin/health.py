"""Liveness, readiness, version and metrics: the endpoints for load balancers, supervisors and Prometheus."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from litestar import Controller, Request, Response, get
from litestar.connection import ASGIConnection
from msgspec import Struct
from prometheus_client import Metric

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.version import Build
from aitbc.kernel.telemetry.metrics import CONTENT_TYPE, Metrics, gauge

CHECK_SECONDS = 1.5
"""How long a check may take before it has failed."""
CACHE_SECONDS = 0.5
"""How long results are cached, so that frequent probes cost the database nothing."""
FREE_BYTES_MIN = 256 << 20
RETRY_SECONDS = 1

Connection = ASGIConnection[Any, Any, Any, Any]
Check = Callable[[], Awaitable[str | None]]
"""None when all is well, else the reason; an error raised is a reason too."""
MaySee = Callable[[Connection], Awaitable[bool]]
"""Whether a caller may read reasons: they name parts of the installation."""


class CheckResult(Struct, frozen=True, kw_only=True):
    """What one check found."""

    name: str
    """What was checked. For example `database`."""
    ok: bool
    """Whether it passed. For example `true`."""
    milliseconds: float
    """How long that took. For example `1.8`."""
    reason: str | None = None
    """What was wrong; left out where it passed. For example `no answer in 2 s`."""


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Annotated[str, one_of(("ok",))] = "ok"
    """Always `ok`. For example `ok`."""


class Readiness(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether requests would be served now."""

    ready: bool
    """Whether all checks passed. For example `true`."""
    failing: list[str]
    """The checks that failed."""
    checks: list[CheckResult] | None = None
    """All of them, with reasons; for callers who may see that."""


class Version(Struct, frozen=True, kw_only=True):
    """What runs here."""

    version: str
    """The release. For example `0.1.0`."""
    api: str
    """The version of the API. For example `v1`."""
    python: str
    """The interpreter. For example `3.11.7`."""
    commit: str | None
    """The git commit; null outside of a checkout. For example `0b1c2d3e4f5a69788796a5b4c3d2e1f00f1e2d3c`."""
    schema: dict[str, str]
    """The migration that each module's part of the database stands on."""


class Health:
    """Runs the readiness checks of this installation, with a short cache."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        build: Build,
        draining: asyncio.Event,
        metrics: Metrics,
        may_see: MaySee,
        schema: Mapping[str, str],
    ) -> None:
        self._checks = dict(checks)
        self._draining = draining
        self._lock = asyncio.Lock()
        self._results: list[CheckResult] = []
        self._checked_at = float("-inf")
        self.metrics = metrics
        self._may_see = may_see
        self.version = Version(
            version=build.version, api=build.api, python=build.python, commit=build.commit, schema=dict(schema)
        )
        metrics.collector("health", self.measure, cache_seconds=1.0)

    async def shows_reasons_to(self, connection: Connection) -> bool:
        """Whether this caller may read the reasons; no when the database does not answer in time."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await self._may_see(connection)
        except TimeoutError:
            return False

    async def readiness(self, *, detailed: bool) -> Readiness:
        """Run every check concurrently. A draining server is not ready, and runs none."""
        if self._draining.is_set():
            results = [CheckResult(name="draining", ok=False, milliseconds=0.0, reason="The server is about to stop.")]
        else:
            async with self._lock:
                if time.monotonic() - self._checked_at >= CACHE_SECONDS:
                    self._results = list(await asyncio.gather(*(_run_check(*check) for check in self._checks.items())))
                    self._checked_at = time.monotonic()
            results = self._results
        failing = [result.name for result in results if not result.ok]
        return Readiness(ready=not failing, failing=failing, checks=results if detailed else None)

    async def measure(self) -> Sequence[Metric]:
        """The results as metrics."""
        ready = gauge("aitbc_ready", "Whether a check of readiness passes.", ("check",))
        for result in (await self.readiness(detailed=True)).checks or ():
            ready.add_metric([result.name], float(result.ok))
        return [ready]


async def _run_check(name: str, check: Check) -> CheckResult:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            reason = await check()
    except TimeoutError:
        reason = f"No answer in {CHECK_SECONDS} s."
    except AppError as error:
        reason = error.message
    except Exception as error:  # noqa: BLE001 - whatever a check dies of is its answer
        reason = type(error).__name__
    milliseconds = round((time.perf_counter() - started) * 1000, 3)
    return CheckResult(name=name, ok=reason is None, milliseconds=milliseconds, reason=reason)


class HealthRoutes(Controller):
    """For load balancers, supervisors and Prometheus."""

    tags = ("health",)

    @get("/healthz", operation_id="get_health", summary="Is it alive?", opt={"permission": PUBLIC})
    async def healthz(self) -> Alive:
        """Is the process alive?

        Asks nothing but the process itself: a stopped database does not make this fail.
        """
        return Alive()

    @get("/readyz", operation_id="get_readiness", summary="Is it ready?", opt={"permission": PUBLIC})
    async def readyz(self, request: Request[Any, Any, Any]) -> Response[Readiness]:
        """Would requests be served now?

        503 while a part that is needed does not answer, and while the server is about to stop. With a key that holds
        the scope `health:read` the answer names the reasons.
        """
        health = health_of(request)
        readiness = await health.readiness(detailed=await health.shows_reasons_to(request))
        if readiness.ready:
            return Response(readiness)
        return Response(readiness, status_code=503, headers={"Retry-After": str(RETRY_SECONDS)})

    @get("/version", operation_id="get_version", summary="Which version?", opt={"permission": PUBLIC})
    async def version(self, request: Request[Any, Any, Any]) -> Version:
        """Which version runs here?"""
        return health_of(request).version

    @get(
        "/metrics",
        operation_id="get_metrics",
        summary="Figures for Prometheus",
        opt={"permission": "metrics:read"},
        media_type=CONTENT_TYPE,
    )
    async def metrics(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """The figures of this process, in the text format of Prometheus.

        The key needs the scope `metrics:read`: give Prometheus one that holds nothing else, as `authorization` with a
        `credentials_file`. There is no way in without one: behind a proxy on the same machine every caller looks local.
        """
        return Response(await health_of(request).metrics.render(), media_type=CONTENT_TYPE)


STATE = "health"
"""Where the app keeps its `Health`: `app.state.health`."""


def health_of(connection: Connection) -> Health:
    """The app's `Health`."""
    health: Health = connection.app.state[STATE]
    return health


# Checks that every installation has ----------------------------------------------------------------------------------


def database_answers(databases: Mapping[str, Database]) -> Check:
    """Whether each module's role gets an answer from the database."""

    async def check() -> str | None:
        await asyncio.gather(*map(_ping, databases.values()))
        return None

    return check


async def _ping(database: Database) -> None:
    async with database.raw() as connection:
        await connection.fetchval("SELECT 1")


def disk_has_room(folder: Path, *, free_bytes_min: int = FREE_BYTES_MIN) -> Check:
    """Whether there is space left where the state is kept."""

    async def check() -> str | None:
        free = (await asyncio.to_thread(shutil.disk_usage, folder)).free
        if free >= free_bytes_min:
            return None
        return f"{folder} has {free >> 20} MiB left and needs {free_bytes_min >> 20} MiB."

    return check
