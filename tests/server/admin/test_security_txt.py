"""The contact for weaknesses of an installation."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.clock import now
from aitbc.server.admin.security_txt import PATH
from aitbc.server.config.settings import ServerSettings
from tests.app import running_app


@pytest.mark.parametrize("contact", ["mailto:security@example.org", None])
async def test_the_contact_of_the_operator_is_served(contact: str | None, target: Target, tmp_path: Path) -> None:
    settings = ServerSettings(security_contact=contact)
    async with running_app(target, tmp_path, server=settings) as app, app.client() as client:
        answer = await client.get(PATH)
    if contact is None:
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert "server.security_contact" in answer.json()["detail"]
        return
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    fields = dict(line.split(": ", 1) for line in answer.text.splitlines())
    assert fields["Contact"] == contact
    left = datetime.fromisoformat(fields["Expires"]) - now()
    assert timedelta(days=30) < left < timedelta(days=365)
