"""Hosts of Northbound servers, and parsing of addresses entered by users."""

from ipaddress import IPv6Address, ip_address, ip_network
import re
from typing import Final

from yarl import URL

# Hosts by region.
REGIONAL_HOSTS: Final = {
    region: f"{region}.fusionsolar.huawei.com"
    for region in (
        *("eu5", "intl", "sg5", "la5", "au5", "me5", "af5", "cn", "cn5"),
        # No client has confirmed these.
        *("jp5", "kr5"),
    )
}

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
