"""Tests of plants that the server refuses; all others are read."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from custom_components.smartpvms.const import DOMAIN
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers import (
    device_registry as dr,
    entity_registry as er,
    issue_registry as ir,
)
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home, Plant

from .conftest import Account

INTERFACES = ["getStationRealKpi", "getDevRealKpi", "getDevList"]
OWNER_CODES = [20056, 20621]
CODES = [*OWNER_CODES, 20007, 20045, 20622, 20623]


@pytest.fixture
def home() -> Home:
    """Return three plants."""
    return homes.fleet(plants=3, devices=9)


def _names(plant: Plant) -> Callable[[dict[str, Any]], bool]:
    """Return whether a call names a plant, or one of its devices."""
    names = {plant.code, *map(str, _ids(plant))}

    def is_named(body: dict[str, Any]) -> bool:
        listed = body.get("stationCodes") or body["devIds"]
        return not names.isdisjoint(listed.split(","))

    return is_named


def _ids(plant: Plant) -> list[int]:
    return [device.id for device in plant.devices]


def _inverter(plant: Plant) -> int:
    return next(each.id for each in plant.devices if each.type_id in (1, 38))


def _issues(hass: HomeAssistant) -> list[tuple[str | None, str]]:
    """Return the translation keys and plants of all issues."""
    return [
        (issue.translation_key, (issue.translation_placeholders or {})["plant"])
        for issue in ir.async_get(hass).issues.values()
        if issue.domain == DOMAIN
    ]


def _is_fresh(account: Account, plant: Plant) -> bool:
    """Return whether the values of a plant and its inverter are shown."""
    values = {
        account.value(plant.code, "day_power"),
        account.value(_inverter(plant), "active_power"),
    }
    return values.isdisjoint({None, STATE_UNAVAILABLE})


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("code", CODES)
async def test_setup(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    code: int,
    interface: str,
) -> None:
    """An account with a refused plant is set up, and the plant comes back."""
    refused, *others = simulator.home.plants
    fault = simulator.faults.add(faults.FailCode(code), interface, when=_names(refused))
    await account.add_plants(simulator.home.plants)
    assert account.entry.state is ConfigEntryState.LOADED
    await account.pass_time(timedelta(minutes=45))
    assert all(_is_fresh(account, plant) for plant in others)
    assert not _is_fresh(account, refused)
    key = "not_authorized" if code in OWNER_CODES else "plant_refused"
    assert _issues(hass) == [(key, refused.name)]
    fault.remove()
    await account.pass_time(timedelta(hours=1, minutes=15))
    assert all(_is_fresh(account, plant) for plant in simulator.home.plants)
    assert _issues(hass) == []
    assert simulator.refusals == []


@pytest.mark.parametrize("interface", INTERFACES)
async def test_plant_that_becomes_refused(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    interface: str,
) -> None:
    """A plant that is refused for a day is tried once an hour, and keeps its devices."""
    refused, *others = simulator.home.plants
    await account.add_plants(simulator.home.plants)
    await account.pass_time(timedelta(minutes=30))
    caplog.clear()
    fault = simulator.faults.add(
        faults.FailCode(20045), interface, when=_names(refused)
    )
    await account.pass_time(timedelta(days=1))
    simulator.calls.clear()
    for _ in range(24):
        await account.pass_time(timedelta(minutes=10))
        assert all(_is_fresh(account, plant) for plant in others)
    assert _issues(hass) == [("plant_refused", refused.name)]
    names = _names(refused)
    tried = [call for call in simulator.calls_to(interface) if names(call.body)]
    types = {device.type_id for device in refused.devices}
    # A list is read less often, since its quota is for a day.
    groups = len(types) if interface == "getDevRealKpi" else 1
    least = 0 if interface == "getDevList" else 3
    assert least * groups <= len(tried) <= 5 * groups
    registry = dr.async_get(hass)
    for device in refused.devices:
        identifier = (DOMAIN, str(device.id))
        assert registry.async_get_device_by_identifier(
            identifier, account.entry.entry_id
        )
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.name == f"custom_components.{DOMAIN}" and record.levelname != "DEBUG"
    ]
    assert len(lines) == len(set(lines)) <= groups
    fault.remove()
    await account.pass_time(timedelta(hours=6))
    assert _issues(hass) == []
    assert _is_fresh(account, refused)
    assert simulator.refusals == []


@pytest.mark.parametrize(
    "fault",
    [
        faults.FailCode(20008),
        faults.NullData(),
        faults.Rewrite(lambda answer: answer | {"data": []}),
    ],
)
async def test_plant_without_devices(
    hass: HomeAssistant, account: Account, simulator: Simulator, fault: faults.Fault
) -> None:
    """A plant without devices is set up, and its devices appear later."""
    [plant] = simulator.home.plants = simulator.home.plants[:1]
    handle = simulator.faults.add(fault, "getDevList")
    await account.add()
    assert account.entry.state is ConfigEntryState.LOADED
    await account.pass_time(timedelta(minutes=10))
    assert account.value(plant.code, "day_power") is not None
    assert ir.async_get(hass).issues == {}
    handle.remove()
    await account.pass_time(timedelta(hours=1, minutes=10))
    assert _is_fresh(account, plant)


@pytest.mark.parametrize(
    "fault",
    [
        faults.FailCode(20008),
        faults.NullData(),
        faults.Rewrite(lambda answer: answer | {"data": []}),
    ],
)
async def test_missing_list_of_known_devices(
    account: Account, simulator: Simulator, fault: faults.Fault
) -> None:
    """A list without known devices does not end their reading."""
    await account.add_plants(simulator.home.plants)
    simulator.faults.add(fault, "getDevList")
    await account.entry.runtime_data.inventory.async_refresh()
    await account.pass_time(timedelta(minutes=20))
    assert all(_is_fresh(account, plant) for plant in simulator.home.plants)


async def test_only_plant_is_refused(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """The only plant of an account is tried in each pass, and comes back soon."""
    [plant] = simulator.home.plants = simulator.home.plants[:1]
    await account.add()
    fault = simulator.faults.add(faults.FailCode(20056), "getStationRealKpi")
    await account.pass_time(timedelta(minutes=30))
    assert _issues(hass) == [("not_authorized", plant.name)]
    fault.remove()
    await account.pass_time(timedelta(minutes=6))
    assert _is_fresh(account, plant)
    assert _issues(hass) == []


async def test_plant_with_several_devices_of_a_type(
    account: Account, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The devices of a refused plant are found one by one, but logged once."""
    simulator.home.plants = homes.farm(inverters=7).plants
    await account.add()
    await account.pass_time(timedelta(minutes=30))
    simulator.faults.add(faults.FailCode(20045), "getDevRealKpi")
    await account.pass_time(timedelta(hours=2))
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and "devices of type 1:" in record.getMessage()
    ]
    assert len(lines) == len(set(lines)) > 0


async def test_other_plants_are_disabled(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """The repair stays, although no other plant is read."""
    refused, *others = simulator.home.plants
    await account.add_plants(simulator.home.plants)
    registry = er.async_get(hass)
    names = [str(name) for plant in others for name in (plant.code, *_ids(plant))]
    for entity in er.async_entries_for_config_entry(registry, account.entry.entry_id):
        if entity.unique_id.startswith(tuple(f"{name}_" for name in names)):
            registry.async_update_entity(
                entity.entity_id, disabled_by=er.RegistryEntryDisabler.USER
            )
    await hass.config_entries.async_reload(account.entry.entry_id)
    simulator.faults.add(
        faults.FailCode(20045), "getStationRealKpi", when=_names(refused)
    )
    await account.pass_time(timedelta(minutes=30))
    for _ in range(12):
        await account.pass_time(timedelta(minutes=10))
        assert _issues(hass) == [("plant_refused", refused.name)]


class TestManyPlants:
    """An account with as many plants as one call may name."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a hundred plants."""
        return homes.fleet(plants=100, devices=100)

    async def test_quota(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """A search that takes more calls than a day allows ends with a set-up."""
        plants = simulator.home.plants
        refused = [plants[3], plants[41], plants[77]]
        for plant in refused:
            simulator.faults.add(
                faults.FailCode(20056), "getDevList", when=_names(plant)
            )
        await account.add_plants(plants)
        assert account.entry.state is ConfigEntryState.LOADED
        await account.pass_time(timedelta(days=2))
        devices = account.entry.runtime_data.inventory.data.devices
        assert len(devices) == 97
        assert len(_issues(hass)) == 3
        assert simulator.refusals == []
