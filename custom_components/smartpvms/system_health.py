"""System health: reachability and service of the servers, and use of the quotas."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from homeassistant.components import system_health
from homeassistant.const import CONF_HOST
from homeassistant.core import HomeAssistant, callback
from homeassistant.util import dt as dt_util

from .account import ACCOUNTS
from .const import DOMAIN
from .northbound import SessionState, base_url, to_epoch
from .northbound.flow_control import FlowControl

# Translation keys by interface, in the order of display.
CALLS: Final = {
    "login": "logins",
    "stations": "plant_list_calls",
    "getStationList": "old_plant_list_calls",
    "getDevList": "device_list_calls",
    "getStationRealKpi": "real_time_plant_calls",
    "getDevRealKpi": "real_time_device_calls",
    "getDevHistoryKpi": "device_history_calls",
}


@callback
def async_register(
    hass: HomeAssistant, register: system_health.SystemHealthRegistration
) -> None:
    """Register the system health information."""
    register.async_register_info(_info)


async def _info(hass: HomeAssistant) -> dict[str, Any]:
    """Return the information; a quota has one value per account."""
    entries = hass.config_entries.async_entries(DOMAIN)
    accounts = hass.data.get(ACCOUNTS, {})
    sessions = [
        accounts[entry.unique_id].session
        for entry in entries
        if entry.unique_id in accounts
    ]
    flow_controls = [session.flow_control for session in sessions]
    hosts = dict.fromkeys(str(base_url(entry.data[CONF_HOST])) for entry in entries)
    info: dict[str, Any] = {
        "accounts": len(entries),
        "can_reach_server": _can_reach(hass, hosts),
    }
    if sessions:
        info |= {"service": ", ".join(map(_service, sessions))}
    for interface, key in CALLS.items():
        used = [
            _used(flow_control, interface)
            for flow_control in flow_controls
            if interface in flow_control.interfaces
        ]
        if used:
            info[key] = ", ".join(used)
    return info | {"refusals": sum(len(each.recent_refusals) for each in flow_controls)}


async def _can_reach(hass: HomeAssistant, hosts: Iterable[str]) -> str | dict[str, str]:
    """Return "ok" if all hosts can be reached, otherwise the first error."""
    results = await asyncio.gather(
        *(system_health.async_check_can_reach_url(hass, host) for host in hosts)
    )
    return next((result for result in results if result != "ok"), "ok")


def _service(session: SessionState) -> str:
    """Return the state of the service and its begin, such as "ok (2026-06-21 12:00)"."""
    state, since = session.service_state.value, session.service_since
    if since is None:
        return state
    begin = dt_util.as_local(dt_util.utc_from_timestamp(to_epoch(since)))
    return f"{state} ({begin:%Y-%m-%d %H:%M})"


def _used(flow_control: FlowControl, interface: str) -> str:
    """Return the used and the allowed calls, such as "3/24"."""
    usages = flow_control.usages(interface)
    calls = sum(usage.calls for usage in usages)
    return f"{calls}/{sum(usage.quota.calls for usage in usages)}"
