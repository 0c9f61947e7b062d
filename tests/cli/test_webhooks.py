"""Webhooks by the real program: made, tried, told of a paid job, rotated, failing, sent again, and gone."""

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from standardwebhooks import Webhook

from tests.certificates import certificate
from tests.cli.installation import CliInstallation, MinerAtWork
from tests.cli.tiny_server import Received, Reply, TinyServer, answering


@contextmanager
def answering_with_tls(chain: Path, key: Path) -> Iterator[TinyServer]:
    """A receiver that shows a certificate."""
    server = TinyServer(lambda _: Reply(204, b""))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    server._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who hangs up is expected
    thread = Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliInstallation]:
    """An installation whose receivers may be on loopback, and Alice."""
    folder = tmp_path_factory.mktemp("installation")
    trusted, _ = certificate(folder, "trusted")
    installation = CliInstallation(folder, AITBC_WEBHOOKS__ALLOW_PRIVATE="true", SSL_CERT_FILE=str(trusted))
    installation.server.start()
    try:
        installation.settle()
        yield installation
    finally:
        installation.server.stop()


def type_of(asked: Received, secret: str) -> str:
    """The type of a message that the reference library accepts."""
    headers = {name.lower(): value for name, value in asked.headers.items()}
    return str(Webhook(secret).verify(asked.body, headers)["type"])


def test_a_webhook_tells_of_a_paid_job_and_its_log_tells_of_the_webhook(installation: CliInstallation) -> None:
    alice = installation.alice
    with answering(Reply(204, b"")) as receiver:
        made = alice.gets("webhook", "create", f"{receiver.url}/hook", "--save", "hook.secret", "--description", "CI")
        assert "secret" not in made and (alice.home / "hook.secret").stat().st_mode & 0o077 == 0
        secret = (alice.home / "hook.secret").read_text().strip()
        sent = alice.gets("webhook", "test", made["id"])
        assert (sent["state"], sent["attempts"], sent["status"]) == ("delivered", 1, 204)
        token = installation.admin.gets("miner", "token")["token"]
        with MinerAtWork(installation.server.url, token):
            job = alice.gets("job", "submit", "embed", "--text", "x", "--max-price", "0.05", "--wait")["id"]
            end = time.monotonic() + 30
            while len(receiver.asked) < 2:
                assert time.monotonic() < end
                time.sleep(0.05)
        first, second = receiver.asked
        assert (type_of(first, secret), type_of(second, secret)) == ("webhook.test", "ai.job_succeeded")
        assert second.json()["data"]["job"] == job
        log = alice.gets("webhook", "deliveries", "--endpoint", made["id"])
        assert [one["type"] for one in log] == ["ai.job_succeeded", "webhook.test"]
        again = alice.gets("webhook", "rotate", made["id"], "--overlap", "1h")
        alice.does("webhook", "test", made["id"])
        for known in (secret, again["secret"]):
            assert type_of(receiver.asked[-1], known) == "webhook.test"
        assert alice.gets("webhook", "show", made["id"])["description"] == "CI"
        table = alice.does("webhook", "list").out
        assert made["id"] in table and "whsec" not in table


def test_what_fails_says_why_and_is_sent_again(installation: CliInstallation) -> None:
    alice = installation.resident("carol")  # whose endpoint gets no events of other tests' jobs
    with answering(Reply(410, b"")) as receiver:
        made = alice.gets("webhook", "create", receiver.url)
        assert made["secret"].startswith("whsec_")
        failed = alice.does("webhook", "test", made["id"], "-o", "json", code=1)
        assert "HTTP 410" in failed.err
        sent = json.loads(failed.out)
        assert sent["state"] == "dead"
        assert alice.gets("webhook", "show", made["id"])["disabled_reason"] == "gone"
        alice.does("webhook", "replay", sent["id"], code=5)
        receiver.answers = lambda _: Reply(200)
        alice.does("webhook", "enable", made["id"])
        assert alice.gets("webhook", "replay", sent["id"])["state"] == "pending"
        end = time.monotonic() + 30
        while len(receiver.asked) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert {asked.headers["webhook-id"] for asked in receiver.asked} == {sent["id"]}
    assert alice.gets("webhook", "disable", made["id"])["enabled"] is False
    alice.does("webhook", "test", made["id"], code=5)
    alice.does("webhook", "delete", made["id"], "--yes")
    alice.does("webhook", "show", made["id"], code=3)


def test_a_message_goes_to_a_certificate_that_is_trusted_and_to_no_other(installation: CliInstallation) -> None:
    dora = installation.resident("dora")
    for name, state, said in (("trusted", "delivered", None), ("other", "pending", "its certificate is not trusted")):
        with answering_with_tls(*certificate(installation.folder, name)) as receiver:
            url = receiver.url.replace("http://127.0.0.1", "https://localhost")
            made = dora.gets("webhook", "create", url)
            sent = json.loads(dora.does("webhook", "test", made["id"], "--json", code=0 if said is None else 1).out)
            assert (sent["state"], sent["error"]) == (state, said)
            assert len(receiver.asked) == (said is None)
            dora.does("webhook", "delete", made["id"], "--yes")


def test_a_wrong_type_and_a_wrong_url_are_told_with_what_is_right(installation: CliInstallation) -> None:
    wrong = installation.alice.does("webhook", "create", "https://hooks.example", "--event", "ai.job_suceeded", code=2)
    assert "did you mean ai.job_succeeded?" in wrong.err
    wrong = installation.alice.does("webhook", "create", "https://user@hooks.example", code=2)
    assert "no user" in wrong.err


def test_the_doctor_names_the_setting_that_opens_the_inside(installation: CliInstallation, tmp_path: Path) -> None:
    opened = installation.admin.knows(AITBC_WEBHOOKS__ALLOW_PRIVATE="true")
    (row,) = opened.gets("doctor", "--only", "webhooks")
    assert (row["result"], row["fix"]) == ("warning", "webhooks.allow_private = false")
    (row,) = installation.admin.gets("doctor", "--only", "webhooks")
    assert row["result"] == "ok"
