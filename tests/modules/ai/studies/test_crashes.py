"""Studies whose process dies anywhere: each trial is one job, paid once, and no money is left behind."""

from datetime import timedelta

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, money
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.models.studies.shapes import OPEN
from tests.modules.ai.deaths import Killed, Life, pay_by_event
from tests.modules.ai.make import AITBC, POOLS, Market, Worker, a_key, ai_on
from tests.modules.ai.studies.test_studies import a_study, look, loss, printed
from tests.modules.trading.fake import FakeTrading
from tests.scale import scaled

STRIDE = scaled(17, 1)
TRIALS = 3
TABLES = ("studies", "trials", "jobs", "attempts", "job_counts", "answers", "flows", "outbox")


async def serve(market: Market, who: Principal, worker: Worker, study: str) -> None:
    """Drive the study on and do its work until it is over."""
    for _ in range(20):
        await market.ai.drive_studies()
        if (await look(market, who, study)).state not in OPEN:
            return
        for lease in [*await market.ai.leases_of(worker.id), *await worker.claim(8)]:
            await worker.deliver(lease, printed(loss(lease)))
    raise AssertionError("it never ends")


async def life(
    owner: Target, trading: FakeTrading, who: Principal, worker: Worker, study: str, points: int | None
) -> Life:
    """One process that serves the study until that is over, or until it dies."""
    here = Life(points)
    async with ai_on(owner, trading=trading) as market:
        worker.market = market
        with here.of(market):
            try:
                await serve(market, who, worker, study)
            except (Killed, AppError):
                assert points is not None
    return here


async def begun(owner: Target, trading: FakeTrading) -> tuple[Principal, Worker, str]:
    """Somebody with a study."""
    async with ai_on(owner, trading=trading) as market:
        who = market.person()
        made = await market.ai.studies.create(who, a_study(trials=TRIALS, parallel=2, sampler="random"), a_key(who))
        return who, Worker(market), made.id


async def audit(owner: Target, trading: FakeTrading, who: Principal, study: str) -> None:
    """Every trial was done and paid once, and nothing is held any more, but what a reconciliation gives back."""
    async with ai_on(owner, trading=trading) as market:
        clock.move(timedelta(seconds=61))
        await market.ai.reconcile_holds()
        await pay_by_event(market)
        found = await look(market, who, study)
        assert (found.state, found.complete, found.reserved) == ("complete", TRIALS, "0"), found.results
        jobs = await market.sql("SELECT id FROM ai.jobs")
        assert len(jobs) == len({one.job for one in found.results}) == TRIALS, "each trial's job, once"
        assert not [hold for hold in trading.holds.values() if hold.state == "open"]
        assert trading.available[who.account] == 100 * AITBC - money.parse(found.spent)
        await market.require_sound()


async def test_a_study_goes_on_from_wherever_its_process_died(owner: Target) -> None:
    trading = FakeTrading()
    who, worker, study = await begun(owner, trading)
    points = (await life(owner, trading, who, worker, study, None)).passed
    await audit(owner, trading, who, study)
    assert points > 40
    for death in range(1, points, STRIDE):
        await POOLS.sql(owner, f"TRUNCATE {', '.join(f'ai.{name}' for name in TABLES)}")
        trading = FakeTrading()
        who, worker, study = await begun(owner, trading)
        died = await life(owner, trading, who, worker, study, death)
        assert died.left is not None
        clock.move(timedelta(seconds=6))
        await life(owner, trading, who, worker, study, None)
        await audit(owner, trading, who, study)
