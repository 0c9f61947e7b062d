"""Nothing leaves for an address that is not public, in whatever form it is written and wherever a name leads by then."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from aitbc.server.config.settings import WebhookSettings
from aitbc.server.webhooks.egress import DestinationRefused, EgressPolicy, NotPublic, is_public
from aitbc.server.webhooks.egress_client import LOOKUPS_MAX, connector
from tests.server.webhooks.receiver import receiving

PUBLIC = "93.184.215.14"
STRICT = EgressPolicy(WebhookSettings())
LENIENT = EgressPolicy(WebhookSettings(allow_private=True))

REFUSED = [
    # S20: forms of loopback, of private networks and of metadata services
    "https://127.1/",
    "https://127.0.0.1/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://2130706433/",
    "https://0/",
    "https://0.0.0.0/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::7f00:1]/",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/",
    "https://100.100.100.200/",
    "https://168.63.129.16/",
    "https://[fd00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fec0::1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[ff02::1]/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.0.1/",
    "https://192.0.0.192/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://192.88.99.1/",
    # Names that lead inside, and odd ones
    "https://localhost/",
    "https://api.localhost/",
    "https://printer.local/",
    "https://metadata.google.internal/",
    "https://router.home.arpa/",
    "https://database/",
    "https://127.0.0.1./",
    "https://hooks.example./",
    "https://hooks..example/",
    "https://%31%32%37.0.0.1/",
    "https://１２７.0.0.1/",  # noqa: RUF001
    "https://hooks。example/",
    "https://hooks.example.1/",
    "https:///hook",
    "https://:443/",
    "https://[::1/",
    # Users, ports, schemes
    "https://user@hooks.example/",
    "https://user:pass@hooks.example/",
    "https://hooks.example@127.0.0.1/",
    "https://127.0.0.1\\@hooks.example/",
    "https://hooks.example:22/",
    "https://hooks.example:5432/",
    "https://hooks.example:80/",
    "https://hooks.example:0/",
    "https://hooks.example:99999/",
    "https://hooks.example:x/",
    "http://hooks.example/",
    "file:///etc/passwd",
    "gopher://hooks.example/",
    "//hooks.example/",
    "hooks.example",
    "https://hooks.example/#there",
    "https://hooks.example/a b",
    "https://hooks.example/\r\nX-Header: 1",
    "https://hooks.exa\tmple/",
    "",
]


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_leads_inside_is_refused_as_it_is_written(url: str) -> None:
    with pytest.raises(DestinationRefused) as refusal:
        STRICT.check(url)
    assert refusal.value.fields[0].pointer == "/url"


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/aitbc?token=1",
        "https://hooks.example:8443/",
        "https://xn--bcher-kva.example/",
        f"https://{PUBLIC}/",
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/",
        "https://a-b_c.1password.example/",
    ],
)
def test_a_public_receiver_is_let_out(url: str) -> None:
    STRICT.check(url)


def test_inside_is_open_to_those_who_say_so_and_to_nobody_else() -> None:
    for url in ("http://127.0.0.1:5000/", "https://localhost:9/", "http://database:22/hook", "https://[::1]/"):
        LENIENT.check(url)
        with pytest.raises(DestinationRefused):
            STRICT.check(url)
    for url in ("ftp://127.0.0.1/", "http://user@127.0.0.1/", "http://127.1/", "http://127.0.0.1/#x"):
        with pytest.raises(DestinationRefused):
            LENIENT.check(url)


@pytest.mark.parametrize("address", ["", "x", "1.2.3", "::ffff:10.0.0.1", "64:ff9b::a00:1", "0.0.0.0", "::"])
def test_what_is_no_public_address_is_none(address: str) -> None:
    assert not is_public(address)
    assert is_public("64:ff9b::5db8:d70e") and is_public(PUBLIC)


Names = Callable[..., list[Any]]


def names(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Has each look-up answered by the next of these; the list that comes back fills with the names that were asked for."""
    asked: list[str] = []

    def look_up(host: str, port: int, *_: Any) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [
            (
                socket.AF_INET6 if ":" in one else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (one, port, 0, 0) if ":" in one else (one, port),
            )
            for one in found
        ]

    monkeypatch.setattr("aitbc.server.webhooks.egress.socket.getaddrinfo", look_up)
    return asked


async def refusal_of(url: str, destinations: EgressPolicy = STRICT) -> BaseException:
    """What a request to a URL ends with; it must not get through."""
    async with aiohttp.ClientSession(connector=connector(destinations)) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as failed:
            await session.post(url, data=b"x", allow_redirects=False)
    return failed.value.os_error


async def test_a_name_that_leads_inside_is_refused_before_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver:
        url = f"http://hooks.example:{receiver.port}/"
        for found in (["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], ["::1"], ["::ffff:127.0.0.1"]):
            names(monkeypatch, found)
            assert isinstance(await refusal_of(url), NotPublic)
        assert receiver.received == []


async def test_an_address_in_the_url_is_refused_at_the_socket() -> None:
    """The client resolves no address that is one already: what was overlooked before ends here."""
    async with receiving() as receiver:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "0x7f000001"):
            assert isinstance(await refusal_of(f"http://{host}:{receiver.port}/"), NotPublic), host
        async with aiohttp.ClientSession(connector=connector(STRICT)) as session:
            for host in ("127.1", "2130706433"):  # the client takes these for what they are not
                with pytest.raises(aiohttp.InvalidURL):
                    await session.post(f"http://{host}:{receiver.port}/")
        assert receiver.received == []


async def test_the_address_that_was_seen_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: a public address first and a private one next. Nobody asks twice for one connection."""
    opened: list[str] = []

    def note(_: EgressPolicy, address: Any) -> socket.socket:
        opened.append(address[4][0])
        raise OSError("far enough")

    asked = names(monkeypatch, [PUBLIC], ["127.0.0.1"])
    monkeypatch.setattr(EgressPolicy, "open_socket", note)
    assert not isinstance(await refusal_of("http://hooks.example/"), NotPublic)
    assert (asked, opened) == (["hooks.example"], [PUBLIC])
    assert isinstance(await refusal_of("http://hooks.example/"), NotPublic)
    assert (asked, opened) == (["hooks.example"] * 2, [PUBLIC])


async def test_where_it_is_allowed_the_same_way_leads_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, ["127.0.0.1"])
    async with receiving() as receiver, aiohttp.ClientSession(connector=connector(LENIENT)) as session:
        async with session.post(f"http://hooks.example:{receiver.port}/", data=b"x") as answer:
            assert answer.status == 200
        assert len(receiver.received) == 1


async def test_silent_name_servers_are_bounded_and_hold_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = threading.Event()
    monkeypatch.setattr("aitbc.server.webhooks.egress.socket.getaddrinfo", lambda *_: silence.wait(20) and [])
    connecting = connector(STRICT)
    try:
        async with aiohttp.ClientSession(connector=connecting) as session:
            waiting = [asyncio.create_task(session.post(f"http://n{i}.example/")) for i in range(LOOKUPS_MAX)]
            await asyncio.sleep(0.1)
            with pytest.raises(aiohttp.ClientConnectorError, match="Too many names"):
                await session.post("http://late.example/")
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        silence.set()
