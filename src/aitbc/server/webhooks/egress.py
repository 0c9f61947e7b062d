"""Egress policy: outgoing requests go to public addresses only, against SSRF and DNS rebinding.

A URL is checked when it is given, but its name may resolve to another address a moment later. So every address that the
name resolves to is checked for each request, and once more the one that the socket is opened for, with no resolution
between the two. No proxy is used and no redirect followed: both would bypass the check.
"""

import ipaddress
import re
import socket
from typing import Any, NoReturn
from urllib.parse import urlsplit

from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.server.config.settings import WebhookSettings

PRIVATE_SUFFIXES = ("localhost", "local", "internal", "home.arpa", "onion")
"""Suffixes of names that are never public."""
_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
"""The last label of a name that lenient parsers take for an address: 127.1, 2130706433, 0x7f000001."""
_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_TUNNELS = tuple(map(ipaddress.ip_network, ("2001::/23", "2002::/16", "3fff::/20")))
_SPECIAL_PURPOSE = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "100.100.100.200/32"))
)
"""Global by the IANA registry, but refused: 6to4 relays, and the metadata services of clouds."""


class DestinationRefused(Invalid):
    """Nothing is sent to this URL.

    Give an https URL with a public name or address, on one of the ports in `webhooks.ports`, without a user in it.
    Receivers inside of a private network need the setting `webhooks.allow_private`.
    """

    code = "destination_refused"


class NotPublic(OSError):
    """The name leads to an address that is not public."""

    def __init__(self) -> None:
        super().__init__(str(NotPublic.__doc__))


def is_public(address: str) -> bool:
    """Whether an address is on the public internet: not loopback, private, a metadata service, or a tunnel to one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)))
        if found not in _UNICAST or any(found in network for network in _TUNNELS):
            return False
    elif any(found in network for network in _SPECIAL_PURPOSE):
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class EgressPolicy:
    """The egress policy of the settings."""

    def __init__(self, settings: WebhookSettings) -> None:
        self.allow_private = settings.allow_private
        """Whether private addresses are allowed."""
        self._ports = frozenset(settings.ports)

    def check(self, url: str) -> None:
        """Check a URL as it is written. Raises `DestinationRefused` with the reason."""
        if not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>^`{|}'):
            _refuse("It holds characters that a URL writes otherwise; a name in other letters begins with xn--.")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            _refuse("It cannot be read.")
        if parts.scheme != "https" and not (self.allow_private and parts.scheme == "http"):
            _refuse("It must begin with https://.")
        if "@" in parts.netloc:
            _refuse("It must name no user and no password.")
        if "#" in url:
            _refuse("It must have no fragment: that part is never sent.")
        if not self.allow_private and (443 if port is None else port) not in self._ports:
            _refuse(f"Its port must be one of {', '.join(map(str, sorted(self._ports)))}.")
        self._check_host(host, bracketed="[" in parts.netloc)

    def check_address(self, host: str, port: int) -> None:
        """Check a host and port as they are written. Raises `DestinationRefused` with the reason."""
        if not self.allow_private and port not in self._ports:
            _refuse(f"Its port must be one of {', '.join(map(str, sorted(self._ports)))}.")
        self._check_host(host.strip("[]").lower(), bracketed=":" in host)

    def _check_host(self, host: str, *, bracketed: bool) -> None:
        if bracketed or re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", host):
            try:
                ipaddress.ip_address(host)
            except ValueError:
                _refuse("Its address cannot be read.")
            if not self.allow_private and not is_public(host):
                _refuse("Its address is not public.")
            return
        last = host.rpartition(".")[2]
        if not _NAME.match(host) or _NUMBER.match(last):
            _refuse("Its host is neither a name nor an address in the usual form.")
        if not self.allow_private and (last == host or any(f".{host}".endswith(f".{end}") for end in PRIVATE_SUFFIXES)):
            _refuse("Its name is not a public one.")

    def open_socket(self, address: Any) -> socket.socket:
        """Open a socket for an address, or refuse it; the only check of an address written in a URL."""
        family, kind, protocol, _, socket_address = address
        if not self.allow_private and not is_public(str(socket_address[0])):
            raise NotPublic
        return socket.socket(family, kind, protocol)


def _refuse(reason: str) -> NoReturn:
    raise DestinationRefused(f"Nothing is sent to this URL. {reason}", fields=(FieldError("/url", reason),))
