"""Tests of server addresses as entered by users."""

import pytest

from custom_components.smartpvms.northbound import base_url, northbound_host

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
    ],
)
def test_base_url(typed: str, url: str) -> None:
    """Host names, URLs and URLs of the portal are accepted."""
    assert str(base_url(typed)) == url


@pytest.mark.parametrize(
    "typed", ["", "  ", "ftp://example.com", "https://", "a b:c:d"]
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
