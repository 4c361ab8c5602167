"""Hosts of Northbound servers, and parsing of addresses entered by users."""

from ipaddress import ip_address
import re
from typing import Final

from yarl import URL

REGIONAL_HOSTS: Final = tuple(
    f"{region}.fusionsolar.huawei.com"
    for region in ("eu5", "intl", "sg5", "la5", "au5", "me5", "af5", "cn", "cn5")
)

_PORTAL: Final = re.compile(
    r"(?:uni|region)\d+([a-z]+\d*)(\.fusionsolar\.huawei\.com)", re.ASCII
)


def base_url(host: str) -> URL:
    """Return the URL of the server for a host name, URL or portal URL.

    The scheme is https, except for http URLs of loopback or private hosts. Raises
    `ValueError` for an invalid address.
    """
    host = host.strip()
    url = URL(host if "://" in host else f"https://{host}")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("not a web address")
    if url.scheme == "http" and not _is_local(url.host):
        port = None if url.port == 80 else url.port
        return URL.build(scheme="https", host=url.host, port=port)
    return url.origin()


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
    return address.is_loopback or address.is_private
