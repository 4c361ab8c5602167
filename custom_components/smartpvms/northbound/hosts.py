"""Hosts of Northbound servers, and parsing of addresses entered by users."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network
import re
from typing import Final

from yarl import URL


class Confidence(StrEnum):
    """How sure it is that a host has the Northbound API."""

    HIGH = "high"
    """Several clients work with it."""
    MEDIUM = "medium"
    """Several clients offer it."""
    LOW = "low"
    """No client has confirmed it."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host that may have the Northbound API."""

    name: str
    region: str
    confidence: Confidence
    source: str


_CLIENTS: Final = "reports of users of public clients"
_LISTS: Final = "lists of hosts in public clients"
_DOMAIN: Final = "fusionsolar.huawei.com"

HOSTS: Final = {
    "eu5": Host(f"eu5.{_DOMAIN}", "Europe", Confidence.HIGH, _CLIENTS),
    "intl": Host(f"intl.{_DOMAIN}", "International", Confidence.HIGH, _CLIENTS),
    "sg5": Host(f"sg5.{_DOMAIN}", "Asia-Pacific", Confidence.HIGH, _CLIENTS),
    "la5": Host(f"la5.{_DOMAIN}", "Latin America", Confidence.MEDIUM, _LISTS),
    "au5": Host(f"au5.{_DOMAIN}", "Australia", Confidence.MEDIUM, _LISTS),
    "me5": Host(f"me5.{_DOMAIN}", "Middle East", Confidence.MEDIUM, _LISTS),
    "af5": Host(f"af5.{_DOMAIN}", "Africa", Confidence.MEDIUM, _LISTS),
    "cn": Host(f"cn.{_DOMAIN}", "China", Confidence.MEDIUM, _LISTS),
    "cn5": Host(f"cn5.{_DOMAIN}", "China", Confidence.MEDIUM, _LISTS),
    "jp5": Host(f"jp5.{_DOMAIN}", "Japan", Confidence.LOW, _LISTS),
    "kr5": Host(f"kr5.{_DOMAIN}", "South Korea", Confidence.LOW, _LISTS),
}
"""The hosts that are offered, by key; any other host can be entered.

The hosts of Energy Orb, which takes over Europe, are not known yet.
"""

_PORTAL: Final = re.compile(
    r"(?:uni|region)\d+([a-z]+\d*)(\.fusionsolar\.huawei\.com)", re.ASCII
)

# Private networks: RFC 1918, and unique local addresses of IPv6 (RFC 4193).
_PRIVATE: Final = tuple(
    ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


def base_url(address: str) -> URL:
    """Return the URL of the server for a host name, URL or portal URL.

    All spellings of a host have the same URL. The scheme is https, except for http URLs
    of loopback, private or link-local hosts. Raises `ValueError` for an invalid address.
    """
    address = address.strip()
    url = URL(address if "://" in address else f"https://{address}")
    # A dot at the end marks a complete name.
    host = (url.host or "").rstrip(".")
    if url.scheme not in ("http", "https") or not host:
        raise ValueError("not a web address")
    scheme = "http" if url.scheme == "http" and _is_local(host) else "https"
    port = None if url.is_default_port() else url.port
    return URL.build(scheme=scheme, host=host, port=port).origin()


def northbound_host(portal_host: str) -> str | None:
    """Return the Northbound host for a host of the web portal's login pages."""
    match = _PORTAL.fullmatch(portal_host)
    return match.expand(r"\1\2") if match else None


def as_host(url: URL) -> str:
    """Return the address of a server, without the scheme if it is https."""
    return str(url).removeprefix("https://")


def redirect_host(server: URL, location: str) -> str | None:
    """Return the host to which a server redirects, `None` if it is no other one.

    A page of the portal leads to the host of its API.
    """
    try:
        url = base_url(str(server.join(URL(location))))
    except ValueError:
        return None
    if better := northbound_host(url.host or ""):
        url = base_url(better)
    return None if url == server else as_host(url)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return (
        address.is_loopback
        or address.is_link_local
        or any(address in network for network in _PRIVATE)
    )
