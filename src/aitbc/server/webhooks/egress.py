"""Where the server sends by itself: public addresses only, seen at the very address that is connected to.

A URL is looked at when it is given; that decides nothing, since a name may lead elsewhere the next moment. What decides is asked
once more of every address that the name has now, and of the one that a socket is opened for. Nobody resolves it again between
the two. No proxy is asked, and no redirect followed: both would lead past this.
"""

import ipaddress
import re
import socket
from typing import Any, NoReturn
from urllib.parse import urlsplit

from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.server.config.settings import WebhookSettings

INSIDE = ("localhost", "local", "internal", "home.arpa", "onion")
"""The ends of names that no public receiver has."""
_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
"""The last label of what a lenient reader takes for an address: 127.1, 2130706433, 0x7f000001."""
_UNICAST = ipaddress.ip_network("2000::/3")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_TUNNELS = tuple(map(ipaddress.ip_network, ("2001::/23", "2002::/16", "3fff::/20")))
_NOT_FOR_US = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "100.100.100.200/32"))
)
"""Public by the register, and yet none: a relay of the past, and the services by which clouds speak to their machines."""


class DestinationRefused(Invalid):
    """Nothing is sent to this URL.

    Give an https URL with a public name or address, on one of the ports in `webhooks.ports`, without a user in it. Receivers
    inside of a private network need the setting `webhooks.allow_private`.
    """

    code = "destination_refused"


class NotPublic(OSError):
    """The name leads to an address that is not public."""

    def __init__(self) -> None:
        super().__init__(str(NotPublic.__doc__))


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet: no loopback, no private network, no metadata service, no tunnel to one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found in _TRANSLATED:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)))
        if found not in _UNICAST or any(found in network for network in _TUNNELS):
            return False
    elif any(found in network for network in _NOT_FOR_US):
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class EgressPolicy:
    """What is let out, by the settings."""

    def __init__(self, settings: WebhookSettings) -> None:
        self.anywhere = settings.allow_private
        """Whether receivers inside of our own networks are sent to."""
        self._ports = frozenset(settings.ports)

    def check(self, url: str) -> None:
        """Look at a URL as it is written. Raises `DestinationRefused` with the reason."""
        if not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>^`{|}'):
            _refuse("It holds characters that a URL writes otherwise; a name in other letters begins with xn--.")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            _refuse("It cannot be read.")
        if parts.scheme != "https" and not (self.anywhere and parts.scheme == "http"):
            _refuse("It must begin with https://.")
        if "@" in parts.netloc:
            _refuse("It must name no user and no password.")
        if "#" in url:
            _refuse("It must have no fragment: that part is never sent.")
        if not self.anywhere and (443 if port is None else port) not in self._ports:
            _refuse(f"Its port must be one of {', '.join(map(str, sorted(self._ports)))}.")
        self._check_host(host, bracketed="[" in parts.netloc)

    def _check_host(self, host: str, *, bracketed: bool) -> None:
        if bracketed or re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", host):
            try:
                ipaddress.ip_address(host)
            except ValueError:
                _refuse("Its address cannot be read.")
            if not self.anywhere and not is_public(host):
                _refuse("Its address is not public.")
            return
        last = host.rpartition(".")[2]
        if not _NAME.match(host) or _NUMBER.match(last):
            _refuse("Its host is neither a name nor an address in the usual form.")
        if not self.anywhere and (last == host or any(f".{host}".endswith(f".{end}") for end in INSIDE)):
            _refuse("Its name is not a public one.")

    def open_socket(self, address: Any) -> socket.socket:
        """A socket for an address, the last moment at which it can be refused; an address in a URL is seen only here."""
        family, kind, protocol, _, place = address
        if not self.anywhere and not is_public(str(place[0])):
            raise NotPublic
        return socket.socket(family, kind, protocol)


def _refuse(reason: str) -> NoReturn:
    raise DestinationRefused(f"Nothing is sent to this URL. {reason}", fields=(FieldError("/url", reason),))
