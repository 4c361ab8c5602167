"""Tests of alarms: each is announced once, and cleared once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
import logging
from typing import Any, Final

from freezegun.api import FrozenDateTimeFactory
import pytest
from pytest_homeassistant_custom_component.common import async_mock_service

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.diagnostics import async_get_config_entry_diagnostics
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import STATE_OFF, STATE_ON, STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import (
    device_registry as dr,
    entity_registry as er,
    issue_registry as ir,
)
from homeassistant.helpers.json import json_bytes
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from tests.simulator import Simulator, alarms, faults, homes
from tests.simulator.plants import Device, Home, Plant

from .conftest import OLD_CODE, Account

LIST: Final = "getAlarmList"
SOON: Final = timedelta(minutes=2)
QUARTER: Final = timedelta(minutes=15, seconds=2)
ALARM: Final = "alarm"
ACTIVE: Final = "active_alarms"
MOST_SEVERE: Final = "most_severe_alarm"
PROBLEM: Final = "problem"


@pytest.fixture
def home() -> Home:
    """Return a home with inverter, battery, meter and dongle."""
    return homes.family()


@pytest.fixture
def plant(home: Home) -> Plant:
    """Return the first plant."""
    return home.plants[0]


@pytest.fixture
def inverter(plant: Plant) -> Device:
    """Return the inverter."""
    return next(device for device in plant.devices if device.mppts)


@pytest.fixture
def dongle(plant: Plant) -> Device:
    """Return a device without values."""
    return next(device for device in plant.devices if device.type_id == 62)


class Announced:
    """The events of alarms that an automation of Home Assistant is triggered by."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Listen for all states."""
        self.events: list[tuple[datetime, dict[str, Any]]] = []
        hass.bus.async_listen("state_changed", self._listen)

    @callback
    def _listen(self, event: Event[EventStateChangedData]) -> None:
        new, old = event.data["new_state"], event.data["old_state"]
        if (
            new is not None
            and new.domain == "event"
            # As the trigger `event.received`.
            and old is not None
            and old.state != STATE_UNAVAILABLE
            and new.state not in (STATE_UNAVAILABLE, STATE_UNKNOWN, old.state)
        ):
            self.events.append((dt_util.utcnow(), {**new.attributes}))

    def of(self, event_type: str | None = None) -> list[dict[str, Any]]:
        """Return the attributes of the events of a type."""
        return [
            attributes
            for _, attributes in self.events
            if event_type in (None, attributes["event_type"])
        ]

    @property
    def names(self) -> list[tuple[str, str]]:
        """Return the types of the events, and the names of their alarms."""
        return [(each["event_type"], each["name"]) for each in self.of()]


@pytest.fixture
def announced(hass: HomeAssistant, account: Account) -> Announced:
    """Return the events of alarms."""
    return Announced(hass)


async def pass_time(account: Account, passed: timedelta) -> None:
    """Advance the time, and wait for alarms that are read in a thread."""
    await account.pass_time(passed)
    await account.entry.runtime_data.alarms.hass.async_block_till_done(
        wait_background_tasks=True
    )


def problem(account: Account, device: Device) -> str | None:
    """Return the state of the problem sensor of a device."""
    return account.value(device.id, PROBLEM)


async def test_life(
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
) -> None:
    """An alarm is raised, cleared after two answers, and raised again."""
    await account.add()
    assert simulator.calls_to(LIST) == []
    await pass_time(account, SOON)
    assert account.value(plant.code, ALARM) == STATE_UNKNOWN
    assert account.value(plant.code, ACTIVE) == "0"
    assert problem(account, inverter) == STATE_OFF
    alarm = simulator.alarms.start(inverter)
    raised = dt_util.utcnow()
    await pass_time(account, QUARTER)
    [attributes] = announced.of()
    texts = alarms.FAULT.texts["en_US"]
    assert attributes == {
        "event_types": ["raised", "cleared"],
        "event_type": "raised",
        "device": inverter.name,
        "name": texts.name,
        "level": "major",
        "cause": texts.cause,
        "advice": texts.advice,
        "alarm_id": 2064,
        "cause_id": 5,
        "raised_at": raised.isoformat(),
        "friendly_name": f"{plant.name} Alarm",
    }
    assert account.value(plant.code, ACTIVE) == "1"
    assert problem(account, inverter) == STATE_ON
    await pass_time(account, timedelta(hours=2))
    simulator.alarms.clear(alarm)
    await pass_time(account, QUARTER)
    assert problem(account, inverter) == STATE_ON
    assert len(announced.events) == 1
    await pass_time(account, QUARTER)
    assert problem(account, inverter) == STATE_OFF
    assert account.value(plant.code, ACTIVE) == "0"
    assert announced.of("cleared") == [attributes | {"event_type": "cleared"}]
    simulator.alarms.start(inverter)
    await pass_time(account, QUARTER)
    assert [kind for kind, _ in announced.names] == ["raised", "cleared", "raised"]
    assert announced.of()[2]["raised_at"] != raised.isoformat()
    assert simulator.refusals == []


async def test_interval(account: Account, simulator: Simulator) -> None:
    """Alarms are read a minute after the start, and then every 15 minutes."""
    await account.add()
    await pass_time(account, timedelta(hours=3))
    times = [call.at for call in simulator.calls_to(LIST)]
    waits = {(b - a).total_seconds() for a, b in pairwise(times)}
    assert all(900 <= wait <= 902 for wait in waits)
    assert len(times) == 12
    assert times[0] > simulator.calls_to("getDevRealKpi")[-1].at - timedelta(hours=3)


@pytest.mark.parametrize("home", [homes.apartment()])
async def test_small_quota(account: Account, simulator: Simulator, home: Home) -> None:
    """With one device, the quota allows alarms every half an hour."""
    [plant] = home.plants
    plant.devices = [device for device in plant.devices if device.mppts]
    await account.add()
    await pass_time(account, timedelta(hours=3, minutes=2))
    assert len(simulator.calls_to(LIST)) == 7
    assert simulator.refusals == []


async def test_registry(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    dongle: Device,
) -> None:
    """Plants have three entities, and devices with values have one."""
    await account.add()
    await pass_time(account, SOON)
    event, active, severe = (
        account.registered(plant.code, key) for key in (ALARM, ACTIVE, MOST_SEVERE)
    )
    assert event
    assert active
    assert severe
    assert event.entity_id == "event.lindenweg_12_alarm"
    assert event.disabled_by is active.disabled_by is None
    assert severe.disabled_by is er.RegistryEntryDisabler.INTEGRATION
    with_problem = {
        each.unique_id.removesuffix(f"_{PROBLEM}")
        for each in account.entities()
        if each.unique_id.endswith(f"_{PROBLEM}")
    }
    assert with_problem == {
        str(device.id) for device in plant.devices if device is not dongle
    }
    own = account.registered(inverter.id, PROBLEM)
    assert own
    assert own.entity_category == "diagnostic"
    device = dr.async_get(hass).async_get(own.device_id or "")
    assert device is not None
    assert (DOMAIN, str(inverter.id)) in device.identifiers


@pytest.mark.usefixtures("all_entities_enabled")
async def test_levels(
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    dongle: Device,
    announced: Announced,
) -> None:
    """Sensors count critical and major alarms, and show the most severe level."""
    battery = next(device for device in plant.devices if device.type_id == 39)
    meter = next(device for device in plant.devices if device.type_id == 47)
    await account.add()
    await pass_time(account, SOON)
    assert account.value(plant.code, MOST_SEVERE) == "no_alarm"
    simulator.alarms.start(inverter, alarms.FAULT, lev=9)
    await pass_time(account, QUARTER)
    assert account.value(plant.code, MOST_SEVERE) == "other"
    assert account.value(plant.code, ACTIVE) == "0"
    simulator.alarms.start(battery, alarms.UNDERVOLTAGE)
    simulator.alarms.start(inverter, alarms.STRING_LOSS)
    await pass_time(account, QUARTER)
    assert account.value(plant.code, MOST_SEVERE) == "minor"
    assert account.value(plant.code, ACTIVE) == "0"
    assert problem(account, battery) == problem(account, inverter) == STATE_OFF
    simulator.alarms.start(dongle, alarms.DISCONNECTED)
    simulator.alarms.start(meter, alarms.GRID_LOSS)
    await pass_time(account, QUARTER)
    assert account.value(plant.code, MOST_SEVERE) == "critical"
    state = account.state(plant.code, ACTIVE)
    assert state is not None
    assert state.state == "2"
    assert {level: state.attributes[level] for level in ("critical", "major")} == {
        "critical": 1,
        "major": 1,
    }
    assert [state.attributes[level] for level in ("minor", "warning", "other")] == [
        1
    ] * 3
    # A meter has no serial number, and a dongle has no values.
    assert problem(account, meter) == STATE_ON
    assert problem(account, inverter) == STATE_OFF
    [of_dongle] = [each for each in announced.of() if each["alarm_id"] == 999999999]
    assert of_dongle["device"] == dongle.name
    assert of_dongle["cause_id"] == -1


@pytest.mark.parametrize(
    ("language", "languages", "name"),
    [
        ("de", alarms.LANGUAGES, "Gerät gestört"),
        ("zh-Hans", alarms.LANGUAGES, "设备异常"),
        ("sv", alarms.LANGUAGES, "Device abnormal"),
        ("cs", alarms.TEN_LANGUAGES, "Device abnormal"),
    ],
)
async def test_language(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    inverter: Device,
    announced: Announced,
    language: str,
    languages: tuple[str, ...],
    name: str,
) -> None:
    """Texts are in the language of Home Assistant, or in English."""
    hass.config.language = language
    simulator.alarms.languages = languages
    simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, timedelta(minutes=40))
    assert announced.names == [("raised", name)]
    rejected = [call for call in simulator.calls_to(LIST) if call.fail_code]
    assert len(rejected) == (languages is alarms.TEN_LANGUAGES)
    hass.config.language = "en"
    await pass_time(account, QUARTER)
    assert len(announced.events) == 1


# Restarts.


@pytest.mark.parametrize("way", ["restart", "kill", "reload"])
async def test_restart(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
    way: str,
) -> None:
    """A restart announces nothing twice, misses nothing, and costs no call."""
    ways: dict[str, Callable[[], Any]] = {
        "restart": account.restart,
        "kill": account.kill,
        "reload": lambda: hass.config_entries.async_reload(account.entry.entry_id),
    }
    first = simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, SOON)
    assert len(announced.events) == 1
    calls = len(simulator.calls_to(LIST))
    await ways[way]()
    assert problem(account, inverter) == STATE_ON
    assert account.value(plant.code, ACTIVE) == "1"
    second = simulator.alarms.start(inverter, alarms.GRID_LOSS)
    await pass_time(account, timedelta(minutes=12))
    assert len(simulator.calls_to(LIST)) == calls
    await pass_time(account, timedelta(minutes=3))
    assert [name for _, name in announced.names] == ["Device abnormal", "Grid loss"]
    await ways[way]()
    for alarm in (first, second):
        simulator.alarms.clear(alarm)
    await pass_time(account, QUARTER)
    await ways[way]()
    assert problem(account, inverter) == STATE_ON
    await pass_time(account, QUARTER)
    assert len(announced.of("cleared")) == 2
    await ways[way]()
    await pass_time(account, timedelta(minutes=45))
    assert len(announced.events) == 4
    assert simulator.refusals == []


async def test_killed_after_an_announcement(
    account: Account, simulator: Simulator, inverter: Device, announced: Announced
) -> None:
    """What was announced is stored at once."""
    await account.add()
    await pass_time(account, SOON)
    simulator.alarms.start(inverter)
    while not announced.events:
        await account.pass_time(timedelta(seconds=1))
    await account.kill()
    await pass_time(account, timedelta(hours=1))
    assert len(announced.events) == 1


@pytest.mark.parametrize("home", [homes.apartment()])
async def test_killed_after_a_call(
    account: Account, simulator: Simulator, home: Home
) -> None:
    """A call counts although it was not stored."""
    [plant] = home.plants
    plant.devices = [device for device in plant.devices if device.mppts]
    await account.add()
    while not simulator.calls_to(LIST):
        await account.pass_time(timedelta(seconds=1))
    await account.kill()
    await pass_time(account, timedelta(minutes=29))
    assert len(simulator.calls_to(LIST)) == 1
    await pass_time(account, timedelta(minutes=3))
    assert len(simulator.calls_to(LIST)) == 2
    assert simulator.refusals == []


async def test_off_while_an_alarm_lives(
    account: Account, simulator: Simulator, inverter: Device, announced: Announced
) -> None:
    """An alarm that is cleared or raised while Home Assistant is off is announced."""
    old = simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, SOON)
    simulator.alarms.clear(old)
    simulator.alarms.start(inverter, alarms.GRID_LOSS)
    await account.restart(off=timedelta(hours=5))
    assert problem(account, inverter) == STATE_UNAVAILABLE
    await pass_time(account, SOON)
    assert announced.names[1:] == [("raised", "Grid loss")]
    await pass_time(account, QUARTER)
    assert announced.names[2:] == [("cleared", "Device abnormal")]


async def test_store_lost(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
    freezer: FrozenDateTimeFactory,
) -> None:
    """Without the file, active alarms are announced again."""
    simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, SOON)
    await account.stop_and_lose_file()
    freezer.tick(timedelta(minutes=31))
    await hass.config_entries.async_setup(account.entry.entry_id)
    await pass_time(account, SOON)
    assert account.value(plant.code, ACTIVE) == "1"
    assert announced.names == [("raised", "Device abnormal")] * 2


async def test_damaged_alarm(
    account: Account,
    simulator: Simulator,
    inverter: Device,
    announced: Announced,
    hass_storage: dict[str, Any],
) -> None:
    """A damaged alarm in the file is dropped alone."""
    simulator.alarms.start(inverter)
    simulator.alarms.start(inverter, alarms.GRID_LOSS)
    await account.add()
    await pass_time(account, SOON)
    [stored] = hass_storage[f"{DOMAIN}.{account.entry.entry_id}"]["data"][
        "alarms"
    ].values()
    first, second = stored["active"]
    assert "internal circuit" not in first
    stored["active"] = [first.replace("2064", '"x",7'), second]
    await account.kill()
    await pass_time(account, timedelta(hours=1))
    assert announced.names[2:] == [("raised", "Device abnormal")]


# Failed and partial answers.


def _partial(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer with an unreadable row in place of the alarms of a plant."""
    codes = {row["stationCode"] for row in answer["data"]}
    return answer | {"data": [{"stationCode": code} for code in codes]}


FAULTS: Final = [
    faults.NullData(),
    faults.HalfJson(),
    faults.HtmlPage(),
    faults.EmptyBody(),
    faults.HttpStatus(502),
    faults.FailCode(20004),
    faults.FailCode(407),
    faults.FailCode(20007),
    faults.FailCode(20055),
    faults.DropConnection(),
    faults.Rewrite(lambda answer: answer | {"data": {}}),
    faults.Rewrite(lambda answer: answer | {"data": [None]}),
    faults.Rewrite(_partial),
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_failed_answers(
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
    caplog: pytest.LogCaptureFixture,
    fault: faults.Fault,
) -> None:
    """A failed or partial answer clears nothing, and delays no live value."""
    simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, SOON)
    handle = simulator.faults.add(fault, LIST)
    await pass_time(account, timedelta(minutes=50))
    assert problem(account, inverter) == STATE_ON
    await pass_time(account, timedelta(hours=2))
    assert problem(account, inverter) == STATE_UNAVAILABLE
    assert account.value(plant.code, ACTIVE) == STATE_UNAVAILABLE
    assert account.value(plant.code, ALARM) != STATE_UNAVAILABLE
    power = account.state(plant.code, "pv_power")
    assert power is not None
    assert dt_util.utcnow() - power.last_reported < timedelta(minutes=6)
    handle.remove()
    await pass_time(account, timedelta(days=1, hours=1))
    assert problem(account, inverter) == STATE_ON
    assert len(announced.events) == 1
    messages = [
        each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING
    ]
    assert not any("Unexpected" in each or plant.code in each for each in messages)
    assert len([each for each in messages if "larms" in each]) <= 2


async def test_absence(
    account: Account, simulator: Simulator, inverter: Device, announced: Announced
) -> None:
    """An alarm that is missing in one answer, or around a failed one, is active."""
    empty = faults.Rewrite(lambda answer: answer | {"data": []})
    alarm = simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, SOON)
    for _ in range(3):
        simulator.faults.add(empty, LIST, times=1)
        await pass_time(account, 2 * QUARTER)
    assert problem(account, inverter) == STATE_ON
    simulator.alarms.clear(alarm)
    await pass_time(account, QUARTER)
    simulator.faults.add(faults.FailCode(20004), LIST, times=2)
    await pass_time(account, 2 * QUARTER)
    assert problem(account, inverter) == STATE_ON
    await pass_time(account, QUARTER)
    assert announced.names == [
        ("raised", "Device abnormal"),
        ("cleared", "Device abnormal"),
    ]


@pytest.mark.parametrize("code", [401, 20009])
async def test_no_permission(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
    caplog: pytest.LogCaptureFixture,
    code: int,
) -> None:
    """Without the permission there are no entities, and one line in the log."""
    fault = simulator.faults.add(faults.FailCode(code), LIST)
    simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, timedelta(hours=10))
    assert account.entry.state is ConfigEntryState.LOADED
    for key in (ALARM, ACTIVE, MOST_SEVERE):
        assert account.registered(plant.code, key) is None
    assert account.registered(inverter.id, PROBLEM) is None
    assert list(ir.async_get(hass).issues) == []
    lines = [each for each in caplog.records if "alarms" in each.getMessage()]
    assert len([each for each in lines if each.levelno > logging.DEBUG]) == 1
    assert len(simulator.calls_to(LIST)) == 10
    shown = await async_get_config_entry_diagnostics(hass, account.entry)
    assert shown["alarms"]["plants"] == {}
    [error] = shown["alarms"]["errors"]
    assert error.startswith("PermissionDenied" if code == 401 else "RequestRejected")
    with pytest.raises(HomeAssistantError) as caught:
        await get_alarms(hass)
    assert caught.value.translation_key == "no_alarms"
    fault.remove()
    await pass_time(account, timedelta(hours=1, minutes=2))
    assert announced.names == [("raised", "Device abnormal")]
    assert problem(account, inverter) == STATE_ON


@pytest.mark.parametrize("home", [homes.fleet(plants=10, devices=40)])
async def test_refused_plant(
    account: Account,
    simulator: Simulator,
    announced: Announced,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A plant whose alarms are refused does not affect the other nine."""
    refused, *others = simulator.home.plants
    for plant in simulator.home.plants:
        simulator.alarms.start(plant.devices[0])

    def names_it(body: dict[str, Any]) -> bool:
        return refused.code in body["stationCodes"].split(",")

    simulator.faults.add(faults.FailCode(20007), LIST, when=names_it)
    await account.add_plants(simulator.home.plants)
    await pass_time(account, timedelta(hours=2))
    assert len(announced.events) == 9
    assert account.registered(refused.code, ACTIVE) is None
    assert {account.value(plant.code, ACTIVE) for plant in others} == {"1"}
    assert simulator.refusals == []
    await pass_time(account, timedelta(days=1))
    assert caplog.text.count("Skipping the alarms of a plant") == 1
    simulator.faults.clear()
    await pass_time(account, timedelta(days=1, hours=1))
    assert len(announced.events) == 10


@pytest.mark.parametrize("home", [homes.fleet(plants=2, devices=8)])
async def test_unauthorized_plant(account: Account, simulator: Simulator) -> None:
    """A plant follows soon after its owner has authorized the API."""
    closed, open_ = simulator.home.plants
    simulator.unauthorize(closed.code)
    await account.add_plants(simulator.home.plants)
    await pass_time(account, timedelta(hours=1))
    assert account.registered(closed.code, ACTIVE) is None
    assert account.value(open_.code, ACTIVE) == "0"
    simulator.authorize(closed.code)
    await pass_time(account, timedelta(hours=1, minutes=20))
    assert account.value(closed.code, ACTIVE) == "0"


@pytest.mark.parametrize("home", [homes.fleet(plants=120, devices=480)])
async def test_batches(account: Account, simulator: Simulator) -> None:
    """At most 100 plants are read at once."""
    await account.add_plants(simulator.home.plants)
    for _ in range(3):
        await pass_time(account, timedelta(minutes=1))
    sizes = [
        len(call.body["stationCodes"].split(",")) for call in simulator.calls_to(LIST)
    ]
    assert sizes == [100, 20]
    assert account.value(simulator.home.plants[-1].code, ACTIVE) == "0"
    await pass_time(account, timedelta(minutes=16))
    assert len(simulator.calls_to(LIST)) == 4
    assert simulator.refusals == []


async def test_used_up_quota(
    account: Account, simulator: Simulator, inverter: Device, announced: Announced
) -> None:
    """Another client that uses up the quota delays alarms only."""
    await account.add()
    await pass_time(account, SOON)
    simulator.use_up(LIST)
    simulator.alarms.start(inverter)
    await pass_time(account, timedelta(hours=1))
    assert announced.names == [("raised", "Device abnormal")]


async def test_refused_password(
    hass: HomeAssistant, account: Account, simulator: Simulator, inverter: Device
) -> None:
    """A refused password asks for a new one once."""
    simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, SOON)
    simulator.change_password("other")
    simulator.expire_token()
    await pass_time(account, timedelta(hours=2))
    assert problem(account, inverter) == STATE_UNAVAILABLE
    assert len(hass.config_entries.flow.async_progress()) == 1


async def test_unlisted_plant(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    home: Home,
    plant: Plant,
    inverter: Device,
    announced: Announced,
) -> None:
    """A plant that one list lacks is unavailable, and announces nothing twice."""
    other = homes.apartment().plants[0]
    home.plants.append(other)
    simulator.alarms.start(inverter)
    await account.add_plants(home.plants)
    await pass_time(account, SOON)
    home.plants.remove(plant)
    await account.entry.runtime_data.inventory.async_refresh()
    for key in (ALARM, ACTIVE):
        assert account.value(plant.code, key) == STATE_UNAVAILABLE
    assert problem(account, inverter) == STATE_UNAVAILABLE
    await pass_time(account, timedelta(minutes=40))
    home.plants.append(plant)
    await account.entry.runtime_data.inventory.async_refresh()
    await pass_time(account, QUARTER)
    assert problem(account, inverter) == STATE_ON
    assert len(announced.events) == 1


async def test_unlisted_device(
    account: Account, simulator: Simulator, plant: Plant, inverter: Device
) -> None:
    """The sensor of a device that is not listed is unavailable."""
    battery = next(device for device in plant.devices if device.type_id == 39)
    simulator.alarms.start(battery)
    await account.add()
    await pass_time(account, SOON)
    assert problem(account, battery) == STATE_ON
    plant.devices.remove(battery)
    await account.entry.runtime_data.inventory.async_refresh()
    assert problem(account, battery) == STATE_UNAVAILABLE
    assert problem(account, inverter) == STATE_OFF


async def test_renamed_plant(
    account: Account,
    simulator: Simulator,
    home: Home,
    announced: Announced,
) -> None:
    """An alarm of a plant with a new code is announced once."""
    [plant] = home.plants = [replace(home.plants[0], code=OLD_CODE)]
    inverter = next(device for device in plant.devices if device.mppts)
    simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, SOON)
    before = account.registered(OLD_CODE, ALARM)
    plant.code = "NE=7"
    await account.entry.runtime_data.inventory.async_refresh()
    await pass_time(account, timedelta(minutes=40))
    after = account.registered("NE=7", ALARM)
    assert before
    assert after
    assert after.entity_id == before.entity_id
    assert account.value("NE=7", ACTIVE) == "1"
    assert len(announced.events) == 1


async def test_disabled_event(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
) -> None:
    """Without the event, the sensors follow; a new alarm is announced later."""
    await account.add()
    await pass_time(account, SOON)
    event = account.registered(plant.code, ALARM)
    assert event
    registry = er.async_get(hass)
    registry.async_update_entity(
        event.entity_id, disabled_by=er.RegistryEntryDisabler.USER
    )
    await pass_time(account, timedelta(minutes=1))
    alarm = simulator.alarms.start(inverter)
    simulator.alarms.start(inverter, alarms.GRID_LOSS)
    await pass_time(account, timedelta(minutes=31))
    assert account.value(plant.code, ACTIVE) == "2"
    simulator.alarms.clear(alarm)
    await pass_time(account, timedelta(minutes=31))
    registry.async_update_entity(event.entity_id, disabled_by=None)
    await pass_time(account, timedelta(minutes=31))
    assert announced.names == [("raised", "Grid loss")]


async def test_server_that_hangs(account: Account, simulator: Simulator) -> None:
    """Alarms without an answer do not delay live values."""
    simulator.faults.add(faults.NeverAnswer(), LIST)
    await account.add()
    # The last call may still wait for its answer.
    await account.pass_time(timedelta(hours=6))
    assert len(simulator.calls_to(LIST)) > 20
    live = [call.at for call in simulator.calls_to("getStationRealKpi")]
    waits = {b - a for a, b in pairwise(live)}
    assert max(waits) < timedelta(seconds=304)


# Times.


async def test_old_alarm(
    account: Account,
    simulator: Simulator,
    inverter: Device,
    announced: Announced,
    freezer: FrozenDateTimeFactory,
) -> None:
    """An alarm is not cleared because it becomes older than the window."""
    at = dt_util.utcnow() - timedelta(days=89, hours=20)
    simulator.alarms.start(inverter, alarms.FAULT, at)
    await account.add()
    await pass_time(account, timedelta(hours=10))
    assert announced.names == [("raised", "Device abnormal")]
    assert problem(account, inverter) == STATE_ON
    first, *_, last = simulator.calls_to(LIST)
    assert first.body["endTime"] - first.body["beginTime"] == 90 * 86_400_000
    assert last.body["beginTime"] == int(at.timestamp() * 1000)


async def test_gives_way_to_live_values(
    account: Account, simulator: Simulator, plant: Plant
) -> None:
    """Alarms are not read right before live values, since they could delay them."""
    await account.add()
    await pass_time(account, timedelta(days=1))
    live = [call.at for call in simulator.calls_to("getStationRealKpi")]
    for call in simulator.calls_to(LIST):
        following = [at for at in live if at >= call.at]
        assert not following or following[0] - call.at > timedelta(seconds=39)
    waits = {b - a for a, b in pairwise(live)}
    assert max(waits) < timedelta(seconds=304)


# The action.


async def get_alarms(hass: HomeAssistant, **data: Any) -> list[dict[str, Any]]:
    """Return the alarms in the response of the action."""
    response: Any = await hass.services.async_call(
        DOMAIN, "get_alarms", data, blocking=True, return_response=True
    )
    found: list[dict[str, Any]] = response["alarms"]
    return found


@pytest.mark.parametrize("home", [homes.fleet(plants=3, devices=12)])
async def test_action(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """The action returns the alarms of plants and levels, the most severe first."""
    first, second, third = simulator.home.plants
    simulator.alarms.start(first.devices[0], alarms.STRING_LOSS)
    simulator.alarms.start(second.devices[0], alarms.FAULT)
    simulator.alarms.start(third.devices[0], alarms.GRID_LOSS)
    await account.add_plants(simulator.home.plants)
    await pass_time(account, SOON)
    found = await get_alarms(hass)
    assert [each["level"] for each in found] == ["critical", "major", "minor"]
    texts = alarms.GRID_LOSS.texts["en_US"]
    assert found[0] == {
        "plant": third.name,
        "device": third.devices[0].name,
        "name": texts.name,
        "level": "critical",
        "cause": texts.cause,
        "advice": texts.advice,
        "alarm_id": 2032,
        "cause_id": 1,
        "raised_at": "2026-06-21T10:00:00+00:00",
        "announced_at": "2026-06-21T10:01:01+00:00",
    }
    chosen = await get_alarms(hass, level=["minor", "major"])
    assert [each["plant"] for each in chosen] == [second.name, first.name]
    device = dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, second.code), account.entry.entry_id
    )
    assert device is not None
    of_plant = await get_alarms(hass, device_id=device.id)
    assert [each["plant"] for each in of_plant] == [second.name]
    assert await get_alarms(hass, device_id=device.id, level="critical") == []


async def test_diagnostics(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    inverter: Device,
    dongle: Device,
) -> None:
    """Diagnostics have ids and levels, but no names and texts."""
    simulator.alarms.start(inverter)
    simulator.alarms.start(
        dongle, alarms.DISCONNECTED, alarmId="Mr. Smith", devName="Smith's"
    )
    await account.add()
    await pass_time(account, SOON)
    shown = await async_get_config_entry_diagnostics(hass, account.entry)
    [of_plant] = shown["alarms"]["plants"].values()
    first, second = of_plant["active"]
    assert first == {
        "device": "device 2 (Residential inverter)",
        "alarm_id": 2064,
        "cause_id": 5,
        "level": "major",
        "age": pytest.approx(120, abs=2),
        "announced": True,
        "absences": 0,
    }
    assert (second["alarm_id"], second["cause_id"]) == ("<text>", -1)
    text = json_bytes(shown).decode()
    assert "Smith" not in text
    assert "abnormal" not in text


# Many alarms, and long texts.


async def test_500_alarms(
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
) -> None:
    """500 alarms with texts of 10,000 characters are announced once each."""
    await account.add()
    await pass_time(account, SOON)
    started = [
        simulator.alarms.start(
            inverter,
            alarms.FAULT,
            causeId=number,
            lev=number,
            alarmName='"\u6f22"' * 2500,
            alarmCause="<b>漢字</b>" * 1000,
            repairSuggestion="ü\n" * 5000,
            devName="x" * 10_000,
        )
        for number in range(500)
    ]
    await pass_time(account, QUARTER)
    assert len(announced.events) == 500
    assert {each["cause_id"] for each in announced.of()} == {*range(500)}
    for each in announced.of():
        assert len(json_bytes(each)) < 4096
    assert account.value(plant.code, ACTIVE) == "2"
    await account.restart()
    for alarm in started:
        simulator.alarms.clear(alarm)
    await pass_time(account, 2 * QUARTER)
    assert len(announced.of("cleared")) == 500
    assert len(announced.events) == 1000


@pytest.mark.parametrize("letter", ["x", "漢", '"', "\n"])
async def test_long_name_of_a_plant(
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
    letter: str,
) -> None:
    """Attributes are small if all texts of the server are long."""
    long = plant.name = f"A{letter}" * 5000
    simulator.alarms.start(
        inverter, devName=long, alarmName=long, alarmCause=long, repairSuggestion=long
    )
    await account.add()
    await pass_time(account, SOON)
    [attributes] = announced.of()
    assert attributes["friendly_name"].startswith("A")
    assert len(json_bytes(attributes)) < 4096


async def test_thousands_of_alarms(
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
    hass_storage: dict[str, Any],
) -> None:
    """Each of 1,500 alarms is announced once, and the stored file is small."""
    await account.add()
    await pass_time(account, SOON)
    started = [
        simulator.alarms.start(inverter, alarms.FAULT, causeId=number)
        for number in range(1500)
    ]
    await pass_time(account, QUARTER)
    assert {each["cause_id"] for each in announced.of()} == {*range(1500)}
    await account.restart()
    await pass_time(account, 5 * QUARTER)
    assert account.value(plant.code, ACTIVE) == "1500"
    assert len(announced.events) == 1500
    stored = hass_storage[f"{DOMAIN}.{account.entry.entry_id}"]["data"]["alarms"]
    assert len(json_bytes(stored)) < 240_000
    for alarm in started[:1400]:
        simulator.alarms.clear(alarm)
    await pass_time(account, 2 * QUARTER)
    assert {each["cause_id"] for each in announced.of("cleared")} == {*range(1400)}
    assert len(announced.events) == 2900
    assert account.value(plant.code, ACTIVE) == "100"


async def test_trigger(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
) -> None:
    """Home Assistant's own trigger receives the events, also several at once."""
    calls = async_mock_service(hass, "notify", "phone")
    await account.add()
    await pass_time(account, SOON)
    registered = account.registered(plant.code, ALARM)
    assert registered
    automation = {
        "triggers": {
            "trigger": "event.received",
            "target": {"entity_id": registered.entity_id},
            "options": {"event_type": ["raised"]},
        },
        "mode": "queued",
        "actions": {
            "action": "notify.phone",
            "data": {"message": "{{ trigger.to_state.attributes.name }}"},
        },
    }
    assert await async_setup_component(hass, "automation", {"automation": automation})
    for kind in alarms.KINDS:
        simulator.alarms.start(inverter, kind)
    await pass_time(account, QUARTER)
    await hass.async_block_till_done()
    assert [call.data["message"] for call in calls] == [
        kind.texts["en_US"].name for kind in alarms.KINDS
    ]
    await account.restart()
    await pass_time(account, timedelta(hours=1))
    assert len(calls) == len(alarms.KINDS)
