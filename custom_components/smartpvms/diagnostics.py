"""Diagnostics without personal data.

Raw values are shown only for documented data items that are numbers or placeholders of
missing values. Plants and devices are numbered in the order of the server's lists.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
import time
from typing import Any, Final

from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import __version__ as home_assistant_version
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr
from homeassistant.loader import async_get_loaded_integration
from homeassistant.util import dt as dt_util

from .account import ACCOUNTS
from .const import DOMAIN
from .coordinator import RealTimeCoordinator
from .counter_filters import Decision
from .descriptions import BINARY_SENSORS, sensors, undocumented
from .device_registry import source_name
from .models import Inventory, Reading, SourceId
from .northbound import DEVICE_TYPE_NAMES, SessionState, number, seconds_until, text
from .northbound.flow_control import FlowControl, Interface
from .options import options_of
from .polling import Batch
from .problems import HISTORY, Problems
from .report_coordinator import SPANS
from .runtime import SmartPvmsConfigEntry
from .statistics import Job

_MAX_AGE_OF_DECISIONS: Final = timedelta(days=1)
# Measurements are smaller; telephone and serial numbers are larger.
_MAX_NUMBER: Final = 1e9
# The year 2000. Times in milliseconds are between this and now.
_MIN_TIME: Final = 946_684_800_000

_KINDS: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "truth value",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
    dict: "object",
}


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry
) -> Mapping[str, Any]:
    """Return the diagnostics of an account, loaded or not."""
    account = _account(hass, entry)
    if entry.state is not ConfigEntryState.LOADED:
        return account
    inventory = entry.runtime_data.inventory.data
    labels = _labels(inventory)
    return {
        **account,
        "inventory": _inventory(entry),
        "groups": _groups(entry, labels),
        "reports": _reports(entry),
        "alarms": _alarms(entry, labels),
        "history": _history(entry),
        "unexpected_errors": [
            {"error": each.error, "age": _age(each.at)}
            for each in entry.runtime_data.problems.isolation.unexpected.values()
        ],
        "readings": {
            label: _source(entry, source_id) for source_id, label in labels.items()
        },
    }


async def async_get_device_diagnostics(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, device: dr.DeviceEntry
) -> Mapping[str, Any]:
    """Return the diagnostics of a plant or device, and of its account."""
    account = _account(hass, entry)
    if entry.state is not ConfigEntryState.LOADED:
        return account
    name = source_name(device)
    labels = _labels(entry.runtime_data.inventory.data)
    # Empty if the device is no longer in the inventory.
    own = {
        source_id: label
        for source_id, label in labels.items()
        if str(source_id) == name
    }
    return {
        **account,
        "groups": _groups(entry, own),
        "readings": {
            label: _source(entry, source_id) for source_id, label in own.items()
        },
    }


def _account(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> dict[str, Any]:
    options = options_of(entry)
    account = hass.data.get(ACCOUNTS, {}).get(str(entry.unique_id))
    return {
        "versions": {
            "integration": str(async_get_loaded_integration(hass, DOMAIN).version),
            "home_assistant": home_assistant_version,
        },
        "entry": {
            "state": entry.state.value,
            "error": entry.error_reason_translation_key,
            "chosen_plants": None if options.plants is None else len(options.plants),
            "currency": options.currency or hass.config.currency,
        },
        "session": account and _session(account.session),
        "flow_control": account and _flow_control(account.session.flow_control),
    }


def _session(state: SessionState) -> dict[str, Any]:
    since = state.service_since
    return {
        "service": {
            "state": state.service_state.value,
            "age": None if since is None else round(time.monotonic() - since, 1),
            "names_other_host": state.service.host is not None,
        },
        "has_token": state.has_token,
        "takeovers_in_the_last_hour": len(state.recent_takeovers),
        "refused_code": state.refused_code,
        "refused_logins": state.refused_logins,
        "empty_logins": state.empty_logins,
        "lost_tokens": state.lost_tokens,
        "pause": round(state.pause, 1),
    }


def _flow_control(flow_control: FlowControl) -> dict[str, Any]:
    now = time.monotonic()
    return {
        "interfaces": {
            name: _interface(flow_control, name, known)
            for name, known in flow_control.interfaces.items()
        },
        "refused_in_the_last_day": [
            {
                "interface": refusal.interface,
                "code": refusal.code,
                "age": round(now - refusal.at, 1),
            }
            for refusal in flow_control.recent_refusals
        ],
    }


def _interface(
    flow_control: FlowControl, name: str, known: Interface
) -> dict[str, Any]:
    return {
        "quotas": [
            {
                "device_type": usage.type_id and _type_name(usage.type_id),
                "calls": usage.calls,
                "allowed": usage.quota.calls,
                "window": usage.quota.window,
                "next_in": round(usage.wait, 1),
            }
            for usage in flow_control.usages(name)
        ],
        "stopped_for": round(seconds_until(known.stopped_until), 1),
        "refusals_in_a_row": known.refusals,
        "used_up": known.used_up,
        "widening": known.widening,
        "once_a_minute": known.once_a_minute,
    }


def _type_name(type_id: int) -> str:
    return f"{DEVICE_TYPE_NAMES.get(type_id, 'unknown')} ({type_id})"


def _labels(inventory: Inventory) -> dict[SourceId, str]:
    """Return anonymous labels of all plants and devices."""
    labels: dict[SourceId, str] = {
        code: f"plant {n}" for n, code in enumerate(inventory.plants, 1)
    }
    for n, device in enumerate(inventory.devices.values(), 1):
        name = DEVICE_TYPE_NAMES.get(device.type_id, f"type {device.type_id}")
        labels[device.id] = f"device {n} ({name})"
    return labels


def _inventory(entry: SmartPvmsConfigEntry) -> dict[str, Any]:
    coordinator = entry.runtime_data.inventory
    inventory = coordinator.data
    types = Counter(device.type_id for device in inventory.devices.values())
    error = coordinator.last_exception
    return {
        "plants": len(inventory.plants),
        "offered_plants": len(inventory.offered),
        "devices": {_type_name(type_id): n for type_id, n in sorted(types.items())},
        "missing": len(inventory.missing),
        "age": _age(inventory.listed),
        "error": error.translation_key
        if isinstance(error, HomeAssistantError)
        else error and type(error).__name__,
    }


def _groups(
    entry: SmartPvmsConfigEntry, labels: Mapping[SourceId, str]
) -> list[dict[str, Any]]:
    real_time = entry.runtime_data.real_time
    polling = real_time.polling
    return [
        _group(real_time, entry.runtime_data.problems, batch, members)
        for batch in dict.fromkeys([*polling.batches, *polling.refused])
        if (
            members := {
                source_id: labels[source_id]
                for source_id in batch.source_ids
                if source_id in labels
            }
        )
    ]


def _group(
    real_time: RealTimeCoordinator,
    problems: Problems,
    batch: Batch,
    members: Mapping[SourceId, str],
) -> dict[str, Any]:
    ages = [
        _age(real_time.data[source_id].received)
        for source_id in members
        if source_id in real_time.data
    ]
    return {
        "group": batch.group,
        "members": list(members.values()),
        "refused": batch in real_time.polling.refused,
        "youngest": min(ages, default=None),
        "oldest": max(ages, default=None),
        "last_error": _last_error(problems, batch.group),
    }


def _last_error(problems: Problems, group: str) -> dict[str, Any] | None:
    if (problem := problems.groups.get(group)) is None:
        return None
    return {"error": problem.error, "age": _age(problem.at)}


def _reports(entry: SmartPvmsConfigEntry) -> dict[str, Any]:
    """Return the age and the error of each plant report."""
    reports = entry.runtime_data.reports
    ages = {
        period: [
            _age(of_plant[span].received)
            for of_plant in reports.data.values()
            if span in of_plant
        ]
        for period, span in SPANS.items()
    }
    errors = {
        period: f"{type(error).__name__}: {error}"
        for period, error in reports.errors.items()
    }
    return {
        period.value: {
            "plants": len(ages[period]),
            "youngest": min(ages[period], default=None),
            "oldest": max(ages[period], default=None),
            "error": errors.get(period),
        }
        for period in SPANS
    }


def _alarms(
    entry: SmartPvmsConfigEntry, labels: Mapping[SourceId, str]
) -> dict[str, Any]:
    """Return the ids and levels of the active alarms, without names and texts."""
    alarms = entry.runtime_data.alarms
    devices = entry.runtime_data.inventory.data.devices_of
    return {
        "errors": sorted(
            {f"{type(error).__name__}: {error}" for error in alarms.errors.values()}
        ),
        "plants": {
            labels[code]: {
                "age": of_plant.received and _age(of_plant.received),
                "active": [
                    {
                        "device": next(
                            (
                                labels[device.id]
                                for device in devices(code)
                                if each.alarm.is_of(device)
                            ),
                            None,
                        ),
                        "alarm_id": _shown(each.alarm.alarm_id),
                        "cause_id": _shown(each.alarm.cause_id),
                        "level": each.alarm.level.value,
                        "age": each.alarm.raised and _age(each.alarm.raised),
                        "announced": each.announced is not None,
                        "absences": each.absences,
                    }
                    for each in of_plant.active
                ],
            }
            for code, of_plant in alarms.data.items()
            if code in labels
        },
    }


def _history(entry: SmartPvmsConfigEntry) -> dict[str, Any]:
    """Return the state of the history import."""
    history = entry.runtime_data.history
    by_kind: dict[str, list[Job]] = {}
    for job in history.queue.jobs:
        by_kind.setdefault(job.priority.name.lower(), []).append(job)
    return {
        "activity": history.activity.value,
        "days_left": round(history.queue.days_left, 1),
        "days_left_of_plants": round(history.plants.days_left, 1),
        "jobs": {kind: _jobs(entry, jobs) for kind, jobs in sorted(by_kind.items())},
        "audit": _audit(entry),
        "last_error": _last_error(entry.runtime_data.problems, HISTORY),
    }


def _audit(entry: SmartPvmsConfigEntry) -> dict[str, Any]:
    """Return the results of the audit, with plants numbered as elsewhere."""
    audit = entry.runtime_data.history.plants.audit
    labels = _labels(entry.runtime_data.inventory.data)
    return {
        labels[code]: {
            "until": end.isoformat(),
            "differences": {
                day.start.isoformat(): {
                    key: asdict(difference)
                    for key, difference in day.differences.items()
                }
                for day in audit.days
                if day.code == code
            },
        }
        for code, end in audit.until.items()
        if code in labels
    }


def _jobs(entry: SmartPvmsConfigEntry, jobs: Collection[Job]) -> dict[str, Any]:
    devices = entry.runtime_data.inventory.data.devices
    now = dt_util.utcnow()
    postponed = {job: job.due for job in jobs if job.due is not None and job.due > now}
    plants = {
        devices[device_id].plant_code
        for job in postponed
        for device_id in job.devices
        if device_id in devices
    }
    next_due = min(postponed.values(), default=None)
    return {
        "jobs": len(jobs),
        "postponed": len(postponed),
        "plants_of_postponed": len(plants),
        "next_due": next_due and next_due.isoformat(),
    }


def _source(entry: SmartPvmsConfigEntry, source_id: SourceId) -> dict[str, Any]:
    """Return the last reading of a plant or device, and its counter decisions."""
    real_time = entry.runtime_data.real_time
    type_id = entry.runtime_data.inventory.data.type_of(source_id)
    reading = real_time.data.get(source_id)
    decisions = {
        key: [_decision(each) for each in of_counter if _is_recent(each)]
        for key, of_counter in real_time.rows.counters.decisions(source_id).items()
    }
    return {
        "reading": reading and _reading(reading, type_id),
        "held_back_or_replaced": {key: each for key, each in decisions.items() if each},
    }


def _reading(reading: Reading, type_id: int | None) -> dict[str, Any]:
    documented = {**BINARY_SENSORS, **sensors(type_id)}
    others = {
        key: _kind(raw) for key, raw in reading.items.items() if key not in documented
    }
    return {
        "age": _age(reading.received),
        "server_clock_ahead": _seconds(reading.server_time - reading.received),
        "live": reading.live,
        "disconnected": reading.disconnected,
        "items": {
            key: _shown(
                raw, moment=documented[key].device_class == SensorDeviceClass.TIMESTAMP
            )
            for key, raw in reading.items.items()
            if key in documented
        },
        "unknown_states": {
            key: _shown(raw)
            for key, raw in reading.items.items()
            if number(raw) is not None and not _is_known(key, raw, type_id)
        },
        "undocumented": {
            key: kind for key, kind in others.items() if undocumented(key) is not None
        },
        "other_keys": sum(undocumented(key) is None for key in others),
    }


def _is_known(key: str, raw: object, type_id: int | None) -> bool:
    """Return whether a state is documented; `True` for items without states."""
    if key in BINARY_SENSORS:
        return number(raw) in (0, 1)
    description = sensors(type_id).get(key)
    if description is None or description.device_class != SensorDeviceClass.ENUM:
        return True
    return description.read(raw) is not None


def _shown(raw: object, *, moment: bool = False) -> object:
    """Return the raw value, or its type if it may be personal data."""
    value = number(raw)
    if value is None:
        harmless = raw is None or isinstance(raw, bool) or _is_placeholder(raw)
    else:
        harmless = abs(value) < _MAX_NUMBER or (
            moment and _MIN_TIME <= value <= time.time() * 1000
        )
    return raw if harmless else f"<{_kind(raw)}>"


def _is_placeholder(raw: object) -> bool:
    """Return whether a raw value is a placeholder for a missing value."""
    return isinstance(raw, str) and text(raw) is None


def _kind(raw: object) -> str:
    return _KINDS[type(raw)]


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "verdict": decision.verdict,
        "raw": _shown(decision.raw),
        "first": dt_util.utc_from_timestamp(decision.first).isoformat(),
        "last": dt_util.utc_from_timestamp(decision.last).isoformat(),
        "readings": decision.readings,
    }


def _is_recent(decision: Decision) -> bool:
    return (
        dt_util.utcnow().timestamp() - decision.last
        < _MAX_AGE_OF_DECISIONS.total_seconds()
    )


def _age(at: datetime) -> float:
    return _seconds(dt_util.utcnow() - at)


def _seconds(span: timedelta) -> float:
    return round(span.total_seconds(), 1)
