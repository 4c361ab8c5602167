"""Fleets of any size with prepared responses."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
import os
import sys
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch
from zlib import crc32

import orjson
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.coordinator import RealTimeCoordinator
from custom_components.smartpvms.entity import ItemEntity
from custom_components.smartpvms.northbound.flow_control import FlowControl
from custom_components.smartpvms.northbound.session import Session
from homeassistant.const import (
    CONF_HOST,
    CONF_PASSWORD,
    CONF_USERNAME,
    EVENT_HOMEASSISTANT_FINAL_WRITE,
)
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_platform
from tests.simulator import Simulator, homes
from tests.simulator.clock import SetClock

# Plants and devices.
SIZES = os.environ.get("BENCHMARK_SIZES", "1/4 10/100 100/1000 500/5000").split()

DAWN: Final = datetime.fromisoformat("2026-06-21 09:00:00+02:00")
COLLECTION: Final = timedelta(minutes=5)

# States of the device types of the fleet.
STATES: Final[Mapping[str, tuple[float, float]]] = {
    "inverter_state": (512.0, 513.0),
    "battery_status": (1.0, 2.0),
    "ch_discharge_model": (4.0, 0.0),
    "real_health_state": (3.0, 2.0),
}
# Items that determine the validity of other items.
UNTOUCHED: Final = ("run_state", "meter_status")

type Items = dict[str, Any]


def changed(key: str, value: object) -> object:
    """Return another value that an item can have five minutes later."""
    if key in STATES:
        first, second = STATES[key]
        return second if value == first else first
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    # A time in milliseconds, or a quantity that rises like energies.
    return value + 60_000 if value > 1e11 else round(value + 0.1, 3)


class Answers:
    """Prepared responses of a server without a network."""

    def __init__(self, simulator: Simulator, clock: SetClock) -> None:
        """Create the responses from the current state of a simulator."""
        home = simulator.home
        self.now = clock.now()
        self._rows: dict[str, Items] = {
            plant.code: simulator.reported_items(plant.code) or {}
            for plant in home.plants
        }
        for _, device in home.devices():
            items = simulator.reported_items(device.id)
            if items is not None:
                self._rows[str(device.id)] = items
        self._sent: dict[tuple[str, str], bytes] = {}
        self._asked: dict[tuple[str, str], Any] = {}
        self._pass = 0

    def turn(self, share: float) -> None:
        """Advance by five minutes, and change a share of the items."""
        self._pass += 1
        self.now += COLLECTION
        most = share * 2**32
        for name, items in self._rows.items():
            seed = f"{self._pass}/{name}/"
            for key, value in items.items():
                # Zeros are strings and phases without a connection.
                if (
                    value
                    and key not in UNTOUCHED
                    and crc32(f"{seed}{key}".encode()) < most
                ):
                    items[key] = changed(key, value)
        self._sent = {
            asked: self._answer(*asked, body) for asked, body in self._asked.items()
        }

    @property
    def payloads(self) -> list[bytes]:
        """Return the responses of a pass."""
        return list(self._sent.values())

    def send(self, interface: str, body: Mapping[str, Any]) -> bytes:
        """Return the response to a call."""
        asked = interface, str(body.get("devIds") or body["stationCodes"])
        if asked not in self._sent:
            self._asked[asked] = body
            self._sent[asked] = self._answer(*asked, body)
        return self._sent[asked]

    def _answer(self, interface: str, names: str, body: Mapping[str, Any]) -> bytes:
        key = "devId" if "devIds" in body else "stationCode"
        return orjson.dumps(
            {
                "success": True,
                "data": [
                    {
                        key: int(name) if key == "devId" else name,
                        "dataItemMap": self._rows[name],
                    }
                    for name in names.split(",")
                    if name in self._rows
                ],
                "failCode": 0,
                "params": {**body, "currentTime": int(self.now.timestamp() * 1000)},
                "message": None,
            }
        )


class Fleet:
    """An account with many plants in Home Assistant."""

    def __init__(self, hass: HomeAssistant, plants: int, devices: int) -> None:
        """Store the account, which is not added yet."""
        self.hass = hass
        self._clock = SetClock(DAWN)
        self.simulator = Simulator(
            homes.fleet(plants, devices), self._clock, quotas=False
        )
        self.entry = MockConfigEntry(domain=DOMAIN, pref_disable_polling=True)

    async def add(self) -> None:
        """Add the account over a local network; then nothing is read automatically."""
        hass = self.hass
        hass.loop.set_debug(False)
        await hass.config.async_set_time_zone("Europe/Berlin")
        self.entry.add_to_hass(hass)
        # Calls are spaced, so the first pass of a large account takes some minutes.
        at_once = patch.object(FlowControl, "wait", lambda *_, **__: 0.0)
        async with self.simulator.serve():
            hass.config_entries.async_update_entry(
                self.entry,
                data={
                    CONF_HOST: self.simulator.url,
                    CONF_USERNAME: self.simulator.account.user_name,
                    CONF_PASSWORD: self.simulator.account.system_code,
                },
            )
            with at_once:
                await hass.config_entries.async_setup(self.entry.entry_id)
                await hass.async_block_till_done(wait_background_tasks=True)
            self.answers = Answers(self.simulator, self._clock)

    @property
    def coordinator(self) -> RealTimeCoordinator:
        """Return the coordinator of the fleet."""
        coordinator: RealTimeCoordinator = self.entry.runtime_data.real_time
        return coordinator

    @property
    def entities(self) -> list[ItemEntity]:
        """Return the enabled entities."""
        return [
            entity
            for domain in ("sensor", "binary_sensor")
            for entity in self.hass.data["entity_components"][domain].entities
            if isinstance(entity, ItemEntity)
        ]

    @contextmanager
    def without_network(self) -> Iterator[None]:
        """Answer any number of calls at once."""

        async def send(
            session: Session,
            interface: str,
            parameters: Mapping[str, object],
            headers: Mapping[str, str] | None = None,
        ) -> tuple[Any, bytes]:
            # A response takes some time to arrive.
            await asyncio.sleep(0)
            return SimpleNamespace(status=200), self.answers.send(interface, parameters)

        with (
            patch.object(Session, "_send", send),
            patch.object(FlowControl, "wait", lambda *_, **__: 0.0),
        ):
            yield


async def write_files(hass: HomeAssistant) -> None:
    """Write the pending changes of files."""
    hass.bus.async_fire(EVENT_HOMEASSISTANT_FINAL_WRITE)
    await hass.async_block_till_done()


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    """Return the numbers of plants and devices of a fleet."""
    size: str = request.param
    return size


@pytest.fixture
async def fleet(
    size: str,
    hass: HomeAssistant,
    enable_custom_integrations: None,
    socket_enabled: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Fleet:
    """Return an account that is added.

    The limit of 10,000 enabled entities per account is lifted.
    """
    monkeypatch.setattr(
        entity_platform, "MAX_ENABLED_ENTITIES_PER_CONFIG_ENTRY", sys.maxsize
    )
    plants, devices = map(int, size.split("/"))
    fleet = Fleet(hass, plants, devices)
    await fleet.add()
    return fleet
