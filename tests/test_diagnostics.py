"""Tests of the diagnostics of accounts and devices in all states."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.diagnostics import (
    get_diagnostics_for_config_entry,
    get_diagnostics_for_device,
)
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.diagnostics import async_get_config_entry_diagnostics
from custom_components.smartpvms.northbound import PermissionDenied
from custom_components.smartpvms.problems import HISTORY
from custom_components.smartpvms.statistics import Activity, Job
from custom_components.smartpvms.statistics.jobs import Priority
from homeassistant.const import __version__ as home_assistant_version
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from tests.simulator import Device, Simulator, faults, homes

from .conftest import Account

INVERTER = "device 2 (Residential inverter)"

type Download = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture
def inverter(simulator: Simulator) -> Device:
    """Return the family's inverter."""
    return simulator.home.plants[0].devices[1]


@pytest.fixture
def download(
    hass: HomeAssistant, account: Account, hass_client: ClientSessionGenerator
) -> Download:
    """Return a function that downloads the diagnostics of the account."""
    # The client's token uses the frozen time, so it is created after the account.

    async def download() -> dict[str, Any]:
        return dict(
            await get_diagnostics_for_config_entry(hass, hass_client, account.entry)
        )

    return download


def _send(simulator: Simulator, device: Device, items: dict[str, Any]) -> None:
    """Change some items of a device from now on."""

    def rewrite(payload: dict[str, Any]) -> dict[str, Any]:
        for row in payload["data"]:
            row["dataItemMap"] |= items if row["devId"] == device.id else {}
        return payload

    simulator.faults.add(faults.Rewrite(rewrite), "getDevRealKpi")


async def test_account(
    added: Account, simulator: Simulator, inverter: Device, download: Download
) -> None:
    """A healthy account has versions, inventory, groups and all readings."""
    diagnostics = await download()
    assert diagnostics["versions"] == {
        "integration": "0.1.0",
        "home_assistant": home_assistant_version,
    }
    assert diagnostics["entry"] == {
        "state": "loaded",
        "error": None,
        "chosen_plants": None,
        "currency": "EUR",
    }
    assert diagnostics["session"]["has_token"]
    assert diagnostics["inventory"] == {
        "plants": 1,
        "offered_plants": 1,
        "devices": {
            "Residential inverter (38)": 1,
            "Residential battery (39)": 1,
            "Power sensor (47)": 1,
            "Dongle (62)": 1,
        },
        "missing": 0,
        "age": 0.0,
        "error": None,
    }
    assert [(each["group"], each["members"]) for each in diagnostics["groups"]] == [
        ("plants", ["plant 1"]),
        ("devices of type 38", [INVERTER]),
        ("devices of type 39", ["device 3 (Residential battery)"]),
        ("devices of type 47", ["device 4 (Power sensor)"]),
    ]
    readings = diagnostics["readings"]
    assert list(readings) == [
        *("plant 1", "device 1 (Dongle)", INVERTER),
        *("device 3 (Residential battery)", "device 4 (Power sensor)"),
    ]
    plant = simulator.home.plants[0]
    assert readings["plant 1"]["reading"]["items"] == simulator.plant_items(plant.code)
    assert readings[INVERTER] == {
        "reading": {
            "age": 0.0,
            "server_clock_ahead": 0.0,
            "live": False,
            "disconnected": False,
            "items": simulator.device_items(inverter.id),
            "unknown_states": {},
            "undocumented": {},
            "other_keys": 0,
        },
        "held_back_or_replaced": {},
    }
    assert readings["device 1 (Dongle)"]["reading"] is None


async def test_flow_control(
    added: Account, simulator: Simulator, download: Download
) -> None:
    """Flow control has the windows of every interface, and refused calls."""
    simulator.faults.add(faults.FailCode(407), "getStationRealKpi")
    await added.poll()
    flow_control = (await download())["flow_control"]
    interfaces = flow_control["interfaces"]
    assert set(interfaces) == {call.interface for call in simulator.calls}
    assert interfaces["getDevList"] == {
        "quotas": [
            {
                "device_type": None,
                "calls": 1,
                "allowed": 25,
                "window": 86400.0,
                "next_in": 0.0,
            }
        ],
        "stopped_for": 0.0,
        "refusals_in_a_row": 0,
        "used_up": False,
        "widening": 0.0,
        "once_a_minute": False,
    }
    assert interfaces["getStationRealKpi"]["refusals_in_a_row"] == 1
    assert interfaces["getStationRealKpi"]["stopped_for"] == pytest.approx(316)
    assert interfaces["getStationRealKpi"]["widening"] == 0.05
    assert [each["device_type"] for each in interfaces["getDevRealKpi"]["quotas"]] == [
        "Residential inverter (38)",
        "Residential battery (39)",
        "Power sensor (47)",
    ]
    assert flow_control["refused_in_the_last_day"] == [
        {"interface": "getStationRealKpi", "code": 407, "age": 0.0}
    ]


async def test_last_error_of_a_group(
    added: Account, simulator: Simulator, download: Download
) -> None:
    """A group has its last error, and the age of its last reading."""
    simulator.faults.add(faults.FailCode(20200), "getStationRealKpi", times=1)
    await added.poll()
    plants, inverters, *_ = (await download())["groups"]
    assert plants["oldest"] == plants["youngest"] == 304
    error = "ServerBusy: server busy (failCode 20200)"
    assert plants["last_error"] == {"error": error, "age": 0.0}
    assert inverters["oldest"] == 0
    assert inverters["last_error"] is None
    await added.poll()
    plants = (await download())["groups"][0]
    assert plants["oldest"] == 0
    assert plants["last_error"] == {"error": error, "age": 304.0}


async def test_history(
    added: Account, simulator: Simulator, inverter: Device, download: Download
) -> None:
    """The jobs of the import by kind, and those that are postponed."""
    history = added.entry.runtime_data.history
    assert (await download())["history"] == {
        "activity": "idle",
        "days_left": 0.0,
        "days_left_of_plants": 0.0,
        "jobs": {},
        "audit": {},
        "last_error": None,
    }
    now = simulator.clock.now()
    battery = simulator.home.plants[0].devices[2]
    for devices, due in (
        ([inverter.id], None),
        ([battery.id], now + timedelta(hours=4)),
        ([battery.id, inverter.id], now + timedelta(hours=1)),
        # Not in the inventory any more.
        ([12], now + timedelta(hours=2)),
    ):
        job = Job.of(Priority.PAST, devices, now - timedelta(days=1), now)
        job.due = due
        history.queue.jobs.append(job)
    history.queue.jobs.append(
        Job.of(Priority.GAP, [inverter.id], now - timedelta(hours=6), now)
    )
    history.activity = Activity.WAITING
    assert (await download())["history"] == {
        "activity": "waiting",
        "days_left": 5.2,
        "days_left_of_plants": 0.0,
        "jobs": {
            "gap": {
                "jobs": 1,
                "postponed": 0,
                "plants_of_postponed": 0,
                "next_due": None,
            },
            "past": {
                "jobs": 4,
                "postponed": 3,
                "plants_of_postponed": 1,
                "next_due": (now + timedelta(hours=1)).isoformat(),
            },
        },
        "audit": {},
        "last_error": None,
    }


async def test_last_error_of_the_history(added: Account, download: Download) -> None:
    """The history keeps its last error, as a group does."""
    problems = added.entry.runtime_data.problems
    problems.add(HISTORY, PermissionDenied("getDevHistoryKpi", 401))
    await added.poll()
    error = "PermissionDenied: no permission for getDevHistoryKpi (failCode 401)"
    history = (await download())["history"]
    assert history["last_error"] == {"error": error, "age": 304.0}


async def test_error_of_the_inventory(
    hass: HomeAssistant, added: Account, simulator: Simulator, download: Download
) -> None:
    """The inventory has the reason why the last list could not be read."""
    simulator.withdraw_permission("getDevList")
    await added.entry.runtime_data.inventory.async_refresh()
    assert (await download())["inventory"]["error"] == "no_permission_device_list"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (8.25, 8.25),
        (-1, -1),
        ("8.25", "8.25"),
        (None, None),
        (True, True),
        ("N/A", "N/A"),
        ("--", "--"),
        ("", ""),
        ("null", "null"),
        ("Lindenweg 12", "<text>"),
        (491_701_234_567, "<number>"),
        ("491701234567", "<text>"),
    ],
)
async def test_documented_values(
    added: Account,
    simulator: Simulator,
    inverter: Device,
    download: Download,
    raw: object,
    shown: object,
) -> None:
    """Documented items are shown only as numbers or known placeholders."""
    _send(simulator, inverter, {"temperature": raw})
    await added.poll()
    items = (await download())["readings"][INVERTER]["reading"]["items"]
    assert items["temperature"] == shown


async def test_moments(
    added: Account, simulator: Simulator, inverter: Device, download: Download
) -> None:
    """A timestamp has as many digits as a telephone number, but is of this century."""
    _send(simulator, inverter, {"open_time": 4_917_012_345_678, "close_time": 0})
    await added.poll()
    items = (await download())["readings"][INVERTER]["reading"]["items"]
    assert (items["open_time"], items["close_time"]) == ("<number>", 0)
    simulator.faults.clear()
    await added.poll()
    items = (await download())["readings"][INVERTER]["reading"]["items"]
    assert items["open_time"] == simulator.device_items(inverter.id)["open_time"]


async def test_undocumented_items(
    added: Account, simulator: Simulator, inverter: Device, download: Download
) -> None:
    """Undocumented keys are shown without values, and states as numbers.

    Objects and keys that are not words are not kept.
    """
    undocumented = {
        "fan_speed": 1200,
        "phaseA_power": "1.5",
        "note": "Lindenweg 12",
        "units": {"unit1": []},
        "latitude": 52.52,
    }
    others = {"HV1234567890": 1, "phase_A_2026": 1}
    ignored = {"NE=33554432": 1, "eu5.fusionsolar": 1, "a b": 1}
    states = {"inverter_state": 9999.0, "run_state": 7}
    _send(simulator, inverter, undocumented | others | ignored | states)
    await added.poll()
    reading = (await download())["readings"][INVERTER]["reading"]
    assert reading["undocumented"] == {
        "fan_speed": "number",
        "phaseA_power": "text",
        "note": "text",
        "latitude": "number",
    }
    assert reading["other_keys"] == len(others)
    assert reading["unknown_states"] == states


async def test_decisions_on_counters(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    inverter: Device,
    download: Download,
) -> None:
    """Held-back values are shown for a day, also after a restart."""
    held_back = simulator.clock.now()
    distortion = simulator.distort(inverter.id, "total_cap", lambda value, at: 0.0)
    await added.poll()
    await added.poll()
    distortion.remove()
    await added.poll()
    await added.restart()
    readings = (await download())["readings"]
    [decision] = readings[INVERTER]["held_back_or_replaced"]["total_cap"]
    assert decision.pop("first") > held_back.isoformat()
    assert decision.pop("last") > held_back.isoformat()
    assert decision == {"verdict": "held back", "raw": 0.0, "readings": 2}
    await added.poll(timedelta(days=1))
    # The client's token has expired by now.
    later = await async_get_config_entry_diagnostics(hass, added.entry)
    assert "total_cap" not in later["readings"][INVERTER]["held_back_or_replaced"]


async def _of_device(
    hass: HomeAssistant,
    hass_client: ClientSessionGenerator,
    account: Account,
    source_id: int | str,
) -> dict[str, Any]:
    device = dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, str(source_id)), account.entry.entry_id
    )
    assert isinstance(device, dr.DeviceEntry)
    return dict(
        await get_diagnostics_for_device(hass, hass_client, account.entry, device)
    )


async def test_device(
    hass: HomeAssistant,
    added: Account,
    inverter: Device,
    download: Download,
    hass_client: ClientSessionGenerator,
) -> None:
    """The diagnostics of a device are a part of the account's."""
    whole = await download()
    part = await _of_device(hass, hass_client, added, inverter.id)
    assert part["versions"] == whole["versions"]
    assert part["flow_control"] == whole["flow_control"]
    assert part["readings"] == {INVERTER: whole["readings"][INVERTER]}
    assert part["groups"] == [whole["groups"][1]]


async def test_device_that_is_not_listed_any_more(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    hass_client: ClientSessionGenerator,
) -> None:
    """A device that is no longer listed has no reading, but everything else."""
    meter = simulator.home.plants[0].devices.pop()
    await added.entry.runtime_data.inventory.async_refresh()
    part = await _of_device(hass, hass_client, added, meter.id)
    assert part["entry"]["state"] == "loaded"
    assert part["readings"] == {}
    assert part["groups"] == []


async def test_several_plants(
    hass: HomeAssistant, account: Account, simulator: Simulator, download: Download
) -> None:
    """Plants are numbered; their chosen number is shown, but not their names."""
    simulator.home.plants = homes.fleet(plants=3, devices=9).plants
    await account.add_plants(simulator.home.plants[1:])
    diagnostics = await download()
    assert diagnostics["entry"]["chosen_plants"] == 2
    assert diagnostics["inventory"]["offered_plants"] == 3
    assert diagnostics["inventory"]["plants"] == 2
    first = diagnostics["readings"]["plant 1"]["reading"]["items"]
    assert first == simulator.plant_items(simulator.home.plants[1].code)
    assert "plant 2" in diagnostics["readings"]
    assert "plant 3" not in diagnostics["readings"]


async def test_service(
    added: Account, simulator: Simulator, download: Download
) -> None:
    """The state of the service is shown, and not the host to which it redirects."""
    service = (await download())["session"]["service"]
    assert service == {"state": "ok", "age": 0.0, "names_other_host": False}
    simulator.faults.add(faults.Redirect("https://moved.example"))
    await added.pass_time(timedelta(minutes=20))
    diagnostics = await download()
    service = diagnostics["session"]["service"]
    assert service["state"] == "busy"
    assert 18 * 60 < service["age"] < 20 * 60
    assert service["names_other_host"]
    assert "moved.example" not in str(diagnostics)


async def test_set_up_is_retried(
    account: Account,
    simulator: Simulator,
    download: Download,
) -> None:
    """Before the first inventory, the reason of the failure is shown."""
    simulator.faults.add(faults.FailCode(20200), "getDevList")
    await account.add()
    diagnostics = await download()
    assert diagnostics["entry"]["state"] == "setup_retry"
    assert diagnostics["entry"]["error"] == "server_busy"
    assert diagnostics["session"]["has_token"]
    assert "getDevList" in diagnostics["flow_control"]["interfaces"]
    assert "readings" not in diagnostics


async def test_not_loaded(
    hass: HomeAssistant,
    added: Account,
    inverter: Device,
    download: Download,
    hass_client: ClientSessionGenerator,
) -> None:
    """An unloaded account and its devices have the remaining data."""
    await hass.config_entries.async_unload(added.entry.entry_id)
    diagnostics = await download()
    assert diagnostics["entry"]["state"] == "not_loaded"
    assert diagnostics["session"]["has_token"]
    assert await _of_device(hass, hass_client, added, inverter.id) == diagnostics


async def test_never_loaded(
    hass: HomeAssistant, added: Account, hass_client: ClientSessionGenerator
) -> None:
    """An account that was never loaded has no data."""
    entry = MockConfigEntry(domain=DOMAIN, unique_id="never")
    entry.add_to_hass(hass)
    diagnostics = await get_diagnostics_for_config_entry(hass, hass_client, entry)
    assert diagnostics["session"] is None
    assert diagnostics["flow_control"] is None
