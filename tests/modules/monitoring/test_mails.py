"""Mails about alerts, sent to real mail servers: each recipient gets one, over TLS where that is asked for."""

import asyncio
import email
import email.message
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.secret import Secret
from aitbc.modules.monitoring.models.tables import MailRow
from aitbc.modules.monitoring.service.mails import Mails
from aitbc.modules.monitoring.service.settings import MonitoringSettings
from tests.certificates import certificate
from tests.modules.monitoring.make import Watched, watched_app
from tests.modules.monitoring.test_alerts import evaluate
from tests.server.runtime.test_serve import free_port

BOTH = ["ops@example.org", "night@example.org"]


class Inbox:
    """What a mail server took."""

    def __init__(self) -> None:
        self.mails: list[email.message.Message] = []
        self.refuses = False
        self.unknown: set[str] = set()

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd calls
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take a recipient that it knows."""
        if address in self.unknown:
            return "450 not now"
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_DATA(  # noqa: N802 - the name that aiosmtpd calls
        self, server: Any, session: Any, envelope: Any
    ) -> str:
        """Take a mail, or refuse it for now."""
        if self.refuses:
            return "451 come again"
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 taken"


@asynccontextmanager
async def mailed_app(target: Target, folder: Path, inbox: Inbox) -> AsyncIterator[Watched]:
    """An app that sends its alerts to a real mail server."""
    server = Controller(inbox, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        async with watched_app(
            target,
            folder,
            smtp_host="127.0.0.1",
            smtp_port=server.port,
            smtp_security="none",
            mail_to=["ops@example.org", "night@example.org"],
            mail_from="aitbc@example.org",
            public_url="https://aitbc.example.org/",
        ) as watched:
            yield watched
    finally:
        server.stop()


async def test_alerts_of_a_group_are_told_in_one_mail_which_is_tried_until_it_is_taken(
    new_database: Any, tmp_path: Path
) -> None:
    inbox = Inbox()
    async with mailed_app(new_database(), tmp_path, inbox) as watched:
        for name in ("one", "two"):
            body = {"name": name, "source": "figure", "target": f"aitbc_{name}", "threshold": 1, "group": "made"}
            await watched.post("alert-rules", {**body, "for_seconds": 0})
        inbox.refuses = True
        assert len(await evaluate(watched, aitbc_one=5, aitbc_two=5)) == 2
        await watched.service.send_mails()
        assert inbox.mails == []
        inbox.refuses = False
        await watched.service.send_mails()
        assert inbox.mails == []  # not before its time
        clock.move(timedelta(seconds=60))
        await watched.service.send_mails()
        await watched.service.send_mails()
        (mail,) = inbox.mails
        assert mail["To"] == "ops@example.org, night@example.org"
        assert mail["Subject"].startswith("[aitbc] made: FIRING (2): warning: one: aitbc_one is 5")
        assert "https://aitbc.example.org/monitoring/alerts" in mail.get_payload()
        assert mail["Message-ID"].endswith("@example.org>")


async def test_who_was_refused_alone_gets_the_mail_later_and_alone(new_database: Any, tmp_path: Path) -> None:
    inbox = Inbox()
    async with mailed_app(new_database(), tmp_path, inbox) as watched:
        body = {"name": "one", "source": "figure", "target": "aitbc_one", "threshold": 1, "for_seconds": 0}
        await watched.post("alert-rules", {**body, "group": "made"})
        inbox.unknown = {BOTH[1]}
        assert len(await evaluate(watched, aitbc_one=5)) == 1
        for _ in range(3):
            await watched.service.send_mails()
            clock.move(timedelta(seconds=120))
            inbox.unknown = set()
    assert [mail["To"] for mail in inbox.mails] == [", ".join(BOTH), BOTH[1]]
    assert len({mail["Message-ID"] for mail in inbox.mails}) == 1


def sign_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """Who may send."""
    return AuthResult(success=isinstance(data, LoginPassword) and data.password == b"s3cret")


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # it is a TLS server from the start
@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mails_go_over_tls_to_a_server_whose_certificate_is_trusted(
    security: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    chain, key = certificate(tmp_path, "mail")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    is_late = security == "starttls"
    how: dict[str, Any] = {"auth_required": True, "auth_require_tls": is_late, "authenticator": sign_in}
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(inbox, hostname="localhost", tls_context=context if is_late else None, **how),
        "127.0.0.1",
        ssl=None if is_late else context,
    )
    async with server:
        settings = MonitoringSettings(
            smtp_host="localhost",
            smtp_port=server.sockets[0].getsockname()[1],
            smtp_security=security,
            smtp_user="aitbc",
            smtp_password=Secret("s3cret"),
        )
        mail = MailRow(id="mail_1", recipients=BOTH, subject="a", body="b", created_at=clock.now())
        mails = Mails(cast("Database", None), settings)
        left, why = await asyncio.to_thread(mails._send, mail)
        assert left == BOTH and "CERTIFICATE_VERIFY_FAILED" in (why or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        assert await asyncio.to_thread(mails._send, mail) == ([], None)
    assert [one["To"] for one in inbox.mails] == [", ".join(BOTH)]
