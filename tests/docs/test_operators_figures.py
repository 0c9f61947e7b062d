"""Figures that the guide for operators names are those that the program and its units go by."""

import configparser
from datetime import timedelta

import pytest

from aitbc.kernel.database.outbox import ATTEMPTS_MAX
from aitbc.kernel.events import relay
from aitbc.modules.ai.models.life import LEASE
from aitbc.modules.ai.module import module as ai
from aitbc.modules.ai.service import sweeper
from aitbc.modules.gpu.service import liveness
from aitbc.modules.trading.module import module as trading
from aitbc.modules.trading.service.settings import TradingSettings
from aitbc.server.admin import security_txt
from aitbc.server.cluster.service_token import TOKEN_SECONDS
from aitbc.server.config.settings import ServerSettings
from aitbc.server.runtime import bootstrap, supervisor
from aitbc.server.webhooks import delivery
from aitbc_cli.miner.executors import program
from tests.architecture.source import ROOT

GUIDE = " ".join((ROOT / "docs" / "operate.md").read_text(encoding="utf-8").split())
TRUST = " ".join((ROOT / "docs" / "trust.md").read_text(encoding="utf-8").split())


def unit(name: str, key: str) -> str:
    """What the unit of the server says."""
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment, method-assign]
    read.read(ROOT / "deploy" / "systemd" / "aitbc.service", encoding="utf-8")
    return read[name][key]


def period(module: object, task: str) -> float:
    """How often a periodic task of a module runs, in seconds."""
    tasks = {one.run.__name__: one.every_seconds for one in module.periodic_tasks}  # type: ignore[attr-defined]
    return float(tasks[task])


FIGURES = {
    "renewed at a start within 60 days of its end": timedelta(days=60) == bootstrap.ADMIN_KEY_RENEWAL,
    "with an expiry 90 days ahead": timedelta(days=90) == security_txt.VALID_FOR,
    "the exit code is 0 within ten seconds": ServerSettings().drain_seconds < 10,
    "A token lives a minute": TOKEN_SECONDS == 60,
    "Elsewhere the miner watches what the processes hold, 25 times a second": program._TICK_SECONDS == 1 / 25,
    "stands still for 30 seconds is ended": unit("Service", "WatchdogSec") == "30s",
    "exit code 6, which systemd repeats five times": unit("Unit", "StartLimitBurst") == "5",
    "exit code 78, a fault of the configuration, is left to you": unit("Service", "RestartPreventExitStatus") == "78",
    "One that dies is started again after a second": unit("Service", "RestartSec") == "1s",
    "no hold expires in the first 15 minutes": TradingSettings().hold_grace_seconds == 900,
    "after half a second at first": supervisor.BACKOFF_SECONDS[0] == 0.5,
    "Within half a minute (webhooks: ten)": {
        sweeper.CLOCK_CHECK_SECONDS,
        relay.CLOCK_CHECK_SECONDS,
        liveness.CLOCK_CHECK_SECONDS,
    }
    == {30.0},
    "Its leases run out after 30 seconds": timedelta(seconds=30) == LEASE,
    "Its messages are tried again for three days": timedelta(days=3)
    <= sum(delivery.RETRY_DELAYS, timedelta())
    < timedelta(days=4),
    "it is disabled when it took nothing for three days": timedelta(days=3) == delivery.FAILING_MAX,
    "Tried again with growing pauses, ten times": ATTEMPTS_MAX == 10,
    "tried for ever, every ten minutes at last": relay.BACKOFF_SECONDS_MAX == 600,
    "by the next round of a task that also runs at the start": period(ai, "tidy") == 60,
}


@pytest.mark.parametrize("sentence", FIGURES)
def test_a_figure_of_the_guide_is_that_of_the_program(sentence: str) -> None:
    assert sentence in GUIDE
    assert FIGURES[sentence]


def test_records_are_sealed_as_often_as_is_promised() -> None:
    assert "At least every two seconds the records that wait are sealed into a **block**" in TRUST
    assert period(trading, "seal") <= 2
