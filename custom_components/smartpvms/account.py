"""Accounts: one session state, one lock and one flow control for each.

The server allows an account one session and few logins, so flows, setups and reloads
share the account until Home Assistant stops.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from homeassistant.const import CONF_HOST, CONF_PASSWORD, CONF_USERNAME
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.aiohttp_client import async_create_clientsession
from homeassistant.helpers.selector import (
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN
from .northbound import HOSTS, NorthboundClient, Plant, Session, SessionState, base_url

HOST_SELECTOR: Final = SelectSelector(
    SelectSelectorConfig(
        # A host cannot be the key of a translation, since it has dots.
        options=[*HOSTS],
        custom_value=True,
        mode=SelectSelectorMode.DROPDOWN,
        translation_key="host",
    )
)


@dataclass(slots=True)
class Account:
    """An account of a server."""

    session: SessionState = field(default_factory=SessionState)
    plants: list[Plant] | None = None
    """The plants that a flow has listed, for the setup after it."""


ACCOUNTS: HassKey[dict[str, Account]] = HassKey(DOMAIN)
"""By unique id of the config entry."""


def account_id(data: Mapping[str, Any]) -> str:
    """Return the unique id of an account from the data of its config entry."""
    return f"{data[CONF_HOST]}_{data[CONF_USERNAME].lower()}"


@callback
def async_get_account(
    hass: HomeAssistant, data: Mapping[str, Any], state: SessionState | None = None
) -> Account:
    """Return the account of a config entry's data; `state` is used for a new one."""
    accounts = hass.data.setdefault(ACCOUNTS, {})
    return accounts.setdefault(account_id(data), Account(state or SessionState()))


def account_client(
    websession: aiohttp.ClientSession, data: Mapping[str, Any], account: Account
) -> NorthboundClient:
    """Return a client with the credentials of a config entry's data."""
    return NorthboundClient(
        Session(
            websession,
            base_url(data[CONF_HOST]),
            data[CONF_USERNAME],
            data[CONF_PASSWORD],
            account.session,
        )
    )


@contextmanager
def temporary_client(
    hass: HomeAssistant, data: Mapping[str, Any], account: Account
) -> Iterator[NorthboundClient]:
    """Yield a client with its own web session, for use outside the config entry."""
    # A websession with automatic cleanup would live until Home Assistant stops.
    websession = async_create_clientsession(
        hass, auto_cleanup=False, cookie_jar=aiohttp.DummyCookieJar()
    )
    try:
        yield account_client(websession, data, account)
    finally:
        websession.detach()
