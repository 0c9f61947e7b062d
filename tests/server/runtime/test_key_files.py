"""The keys in the state folder: kept from start to start, and renewed before they end."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.server.runtime.bootstrap import ADMIN_KEY_LIFETIME, ADMIN_KEY_RENEWAL
from tests.app import running_app


@pytest.fixture(autouse=True)
async def _own_clock() -> AsyncIterator[None]:
    yield
    clock.reset()


async def test_the_admin_key_is_renewed_at_a_start_before_it_ends(target: Target, tmp_path: Path) -> None:
    assert timedelta(days=60) == ADMIN_KEY_RENEWAL
    secrets = []
    for days in (0, (ADMIN_KEY_LIFETIME - ADMIN_KEY_RENEWAL).days - 1, 2):
        clock.move(timedelta(days=days))
        async with running_app(target, tmp_path) as app:
            admin = await app.admin()
            assert (await admin.get("/api/v1/identity/keys/self")).status_code == 200
            assert (tmp_path / "admin.key").stat().st_mode & 0o777 == 0o600
            secrets.append(admin.secret)
    assert secrets[0] == secrets[1] != secrets[2]
