"""Mails about alerts: written in the transaction of the alert, and sent by SMTP with backoff until they are taken."""

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime

import structlog
from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import new_id
from aitbc.modules.monitoring.models.tables import MailRow
from aitbc.modules.monitoring.service.settings import MonitoringSettings

ATTEMPTS_MAX = 8
"""After so many failures a mail is given up."""
BACKOFF = timedelta(seconds=15)
"""The pause after the first failure; it doubles with each."""
BATCH = 10
CONNECT_SECONDS = 20.0
"""How long the mail server may take for each of its answers."""
SUBJECT_LENGTH_MAX = 150

log = structlog.get_logger("aitbc.monitoring.mails")


class Mails:
    """Writes mails, and sends those that are due."""

    def __init__(self, db: Database, settings: MonitoringSettings) -> None:
        self._db = db
        self._settings = settings

    def add(self, uow: UnitOfWork, group: str, fired: Sequence[str], cleared: Sequence[str]) -> None:
        """Add a mail about the alerts of a group to a transaction, where mails are set up."""
        if self._settings.smtp_host is None or not self._settings.mail_to:
            return
        at = now()
        first = f"FIRING ({len(fired)}): {fired[0]}" if fired else f"cleared ({len(cleared)}): {cleared[0]}"
        uow.add(
            MailRow(
                id=new_id("mail"),
                recipients=list(self._settings.mail_to),
                subject=f"[aitbc] {group}: {first}".replace("\n", " ").replace("\r", " ")[:SUBJECT_LENGTH_MAX],
                body=self._body(group, fired, cleared),
                created_at=at,
                due_at=at,
                attempts=0,
            )
        )

    def _body(self, group: str, fired: Sequence[str], cleared: Sequence[str]) -> str:
        lines = [f"Alerts of the group {group}.", ""]
        lines += ["Firing:", *(f"  {line}" for line in fired), ""] if fired else []
        lines += ["Cleared:", *(f"  {line}" for line in cleared), ""] if cleared else []
        url = (self._settings.public_url or "").rstrip("/")
        lines.append(f"All alerts: {url}/monitoring/alerts" if url else "All alerts: aitbc alert list")
        return "\n".join(lines) + "\n"

    async def send_due(self) -> None:
        """Send what is due. A mail that a server takes while we die may come twice, with one Message-ID."""
        if self._settings.smtp_host is None:
            return
        for mail in await self._take():
            left, error = await asyncio.to_thread(self._send, mail)
            async with self._db.unit_of_work() as uow:
                row = await uow.session.get(MailRow, mail.id, with_for_update=True)
                if row is None or row.attempts != mail.attempts:
                    continue
                row.last_error, row.recipients = error, left or row.recipients
                if not left:
                    row.sent_at = now()
                elif row.attempts >= ATTEMPTS_MAX:
                    row.dead_at = now()
                    log.error("mail_given_up", mail=row.id, reason=error)

    async def _take(self) -> Sequence[MailRow]:
        """Take the mails that are due, and put each off, so that nobody else sends it meanwhile."""
        waiting = (MailRow.sent_at.is_(None), MailRow.dead_at.is_(None), MailRow.due_at <= now())
        query = select(MailRow).where(*waiting).order_by(MailRow.due_at).limit(BATCH).with_for_update(skip_locked=True)
        async with self._db.unit_of_work() as uow:
            rows = (await uow.session.scalars(query)).all()
            for row in rows:
                row.attempts += 1
                row.due_at = now() + timedelta(seconds=CONNECT_SECONDS) + BACKOFF * 2 ** (row.attempts - 1)
            return rows

    def _send(self, mail: MailRow) -> tuple[list[str], str | None]:
        """Send one mail; returns for whom it was not taken, and why: the server may take it for some of them only."""
        try:
            with self._connected() as server:
                refused = server.send_message(self._message(mail), to_addrs=mail.recipients)
        except (smtplib.SMTPException, OSError) as error:
            return list(mail.recipients), f"{type(error).__name__}: {error}"[:500]
        told = "; ".join(f"{name}: {code} {text.decode(errors='replace')}" for name, (code, text) in refused.items())
        return list(refused), told[:500] or None

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        assert settings.smtp_host is not None
        context = ssl.create_default_context()
        if settings.smtp_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.smtp_host, settings.smtp_port, timeout=CONNECT_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=CONNECT_SECONDS)
        try:
            if settings.smtp_security == "starttls":
                server.starttls(context=context)
            if settings.smtp_user is not None and settings.smtp_password is not None:
                if settings.smtp_security == "none":
                    raise smtplib.SMTPException("a password is sent over TLS only: set monitoring.smtp_security")
                server.login(settings.smtp_user, settings.smtp_password.reveal())
        except BaseException:
            server.close()
            raise
        return server

    def _message(self, mail: MailRow) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"] = self._settings.mail_from, ", ".join(mail.recipients)
        message["Subject"], message["Date"] = mail.subject, format_datetime(mail.created_at)
        message["Message-ID"] = f"<{mail.id}@{self._settings.mail_from.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.body)
        return message
