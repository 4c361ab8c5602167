"""Tests of server addresses as entered by users."""

import pytest
from yarl import URL

from custom_components.smartpvms.northbound import (
    HOSTS,
    as_host,
    base_url,
    northbound_host,
)
from custom_components.smartpvms.northbound.hosts import redirect_host

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("eu5.fusionsolar.huawei.com", "https://eu5.fusionsolar.huawei.com"),
        (" EU5.fusionsolar.huawei.com/ ", "https://eu5.fusionsolar.huawei.com"),
        (
            "https://uni001eu5.fusionsolar.huawei.com/uniportal/pvmswebsite/#/home",
            "https://uni001eu5.fusionsolar.huawei.com",
        ),
        ("http://eu5.fusionsolar.huawei.com", "https://eu5.fusionsolar.huawei.com"),
        ("http://example.com:8080/x", "https://example.com:8080"),
        (
            "intl.fusionsolar.huawei.com:27200",
            "https://intl.fusionsolar.huawei.com:27200",
        ),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://192.168.1.5", "http://192.168.1.5"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("192.168.1.5", "https://192.168.1.5"),
        ("http://8.8.8.8", "https://8.8.8.8"),
        ("https://user:secret@example.com", "https://example.com"),
        # Other spellings of a host.
        ("EU5.FusionSolar.Huawei.com:443", "https://eu5.fusionsolar.huawei.com"),
        ("eu5.fusionsolar.huawei.com.", "https://eu5.fusionsolar.huawei.com"),
        (
            "https://eu5.fusionsolar.huawei.com.:443/",
            "https://eu5.fusionsolar.huawei.com",
        ),
        ("http://example.com:80", "https://example.com"),
        ("http://example.com:443", "https://example.com"),
        ("http://localhost.:80", "http://localhost"),
        ("[0:0:0:0:0:0:0:1]:443", "https://[::1]"),
        # Local addresses, by their network.
        ("http://10.1.2.3", "http://10.1.2.3"),
        ("http://172.31.255.1", "http://172.31.255.1"),
        ("http://169.254.1.1", "http://169.254.1.1"),
        ("http://[fd00::1]:8080", "http://[fd00::1]:8080"),
        ("http://[fe80::1%25eth0]", "http://[fe80::1%eth0]"),
        ("http://[fe80::1%eth0]", "http://[fe80::1%eth0]"),
        ("http://[::ffff:192.168.1.5]", "http://[::ffff:192.168.1.5]"),
        # Other networks that are not global.
        ("http://172.32.0.1", "https://172.32.0.1"),
        ("http://192.0.2.1", "https://192.0.2.1"),
        ("http://203.0.113.1", "https://203.0.113.1"),
        ("http://240.0.0.1", "https://240.0.0.1"),
        ("http://0.0.0.0", "https://0.0.0.0"),
        ("http://100.64.0.1", "https://100.64.0.1"),
        ("http://[2002:c0a8:105::1]", "https://[2002:c0a8:105::1]"),
        ("http://[2001::1]", "https://[2001::1]"),
        ("http://[::ffff:8.8.8.8]", "https://[::ffff:8.8.8.8]"),
    ],
)
def test_base_url(typed: str, url: str) -> None:
    """Host names, URLs and URLs of the portal are accepted."""
    assert str(base_url(typed)) == url
    assert base_url(url) == base_url(typed)


@pytest.mark.parametrize(
    "typed", ["", "  ", "ftp://example.com", "https://", "https://.", "a b:c:d"]
)
def test_no_address(typed: str) -> None:
    """Invalid addresses are rejected."""
    with pytest.raises(ValueError):
        base_url(typed)


@pytest.mark.parametrize(
    ("portal", "host"),
    [
        ("uni001eu5.fusionsolar.huawei.com", "eu5.fusionsolar.huawei.com"),
        ("region02eu5.fusionsolar.huawei.com", "eu5.fusionsolar.huawei.com"),
        ("uni003la5.fusionsolar.huawei.com", "la5.fusionsolar.huawei.com"),
        ("eu5.fusionsolar.huawei.com", None),
        ("uni001eu5.example.com", None),
    ],
)
def test_northbound_host(portal: str, host: str | None) -> None:
    """A host of the web portal has a base host."""
    assert northbound_host(portal) == host


def test_offered_hosts() -> None:
    """Every offered host has a region, a source and a confidence, and is valid."""
    for host in HOSTS.values():
        assert host.region
        assert host.source
        assert host.confidence
        assert as_host(base_url(host.name)) == host.name


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("https://api.energyorb.com/thirdData/login", "api.energyorb.com"),
        ("https://api.energyorb.com:8443/", "api.energyorb.com:8443"),
        ("http://api.energyorb.com/", "api.energyorb.com"),
        ("//api.energyorb.com/thirdData", "api.energyorb.com"),
        ("https://region01sg5.fusionsolar.huawei.com/x", "sg5.fusionsolar.huawei.com"),
        # The same server.
        ("/thirdData/other", None),
        ("https://eu5.fusionsolar.huawei.com/login.html", None),
        ("https://uni001eu5.fusionsolar.huawei.com/", None),
        ("", None),
        # No web addresses.
        ("ftp://api.energyorb.com/", None),
        ("https://", None),
        ("https://[::1/", None),
        ("https://a:b/", None),
    ],
)
def test_redirect(location: str, host: str | None) -> None:
    """A redirect names another host only if it leads there."""
    server = URL("https://eu5.fusionsolar.huawei.com")
    assert redirect_host(server, location) == host
