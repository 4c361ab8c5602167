"""Tests of the simulator, on which all comparisons depend."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
import json
import math
from pathlib import Path
import signal
import sys
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
from freezegun import freeze_time
from hypothesis import given, settings, strategies as st
import pytest

from tests.simulator import (
    Device,
    DeviceType,
    Home,
    Plant,
    RealClock,
    SetClock,
    Simulator,
    SpedClock,
    alarms,
    faults,
    homes,
)
from tests.simulator.chaos import Chaos, Rates
from tests.simulator.cloud import Change
from tests.simulator.collection import Collection
from tests.simulator.counter_faults import (
    flipping,
    jittering,
    multiplied,
    offline,
    reads,
    replaced,
    still_yesterday,
    with_days_of,
    without_yesterday,
)
from tests.simulator.counters import Counter, Kind, counters_of
from tests.simulator.energy import Row, _days_of
from tests.simulator.reports import REPORTS

NOON = datetime(2026, 6, 21, 10, 0, tzinfo=UTC)
NIGHT = datetime(2026, 6, 21, 23, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
DOCUMENT = json.loads(
    (Path(__file__).parent / "fixtures" / "data_items.json").read_text(encoding="utf-8")
)
ALL_HOMES = {name: home for name, home in homes.HOMES.items() if name != "fleet"}

type Answer = tuple[int, bytes]

pytestmark = pytest.mark.usefixtures("socket_enabled")


class Client:
    """A plain HTTP client."""

    def __init__(self, session: aiohttp.ClientSession, simulator: Simulator) -> None:
        """Store the simulator."""
        self._session = session
        self._simulator = simulator
        self.token = ""

    async def raw(self, interface: str, body: Any = None) -> Answer:
        """Return the status and body of a response."""
        async with self._session.post(
            f"{self._simulator.url}/thirdData/{interface}",
            json=body or {},
            headers={"XSRF-TOKEN": self.token},
        ) as response:
            self.token = response.headers.get("XSRF-TOKEN", self.token)
            return response.status, await response.read()

    async def call(self, interface: str, **body: Any) -> dict[str, Any]:
        """Return the JSON of a response."""
        _, content = await self.raw(interface, body)
        answer: dict[str, Any] = json.loads(content)
        return answer

    async def code(self, interface: str, **body: Any) -> Any:
        """Return the failCode of a response."""
        return (await self.call(interface, **body))["failCode"]

    async def log_in(self, password: str = "Simulated-1") -> Any:
        """Log in and return the failCode."""
        return await self.code("login", userName="demo_api", systemCode=password)

    async def devices(self, *devices: Device, **more: Any) -> dict[str, Any]:
        """Request the real-time items of devices of one type."""
        ids = ",".join(str(device.id) for device in devices)
        fields = {"devIds": ids, "devTypeId": devices[0].type_id} | more
        return await self.call("getDevRealKpi", **fields)


@pytest.fixture
def clock() -> SetClock:
    """Return a clock at noon in summer."""
    return SetClock(NOON)


@pytest.fixture
def home() -> Home:
    """Return the home of the test."""
    return homes.family()


@pytest.fixture
async def simulator(home: Home, clock: SetClock) -> AsyncIterator[Simulator]:
    """Serve the home without quotas."""
    simulator = Simulator(home, clock, quotas=False)
    async with simulator.serve():
        yield simulator


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Return an HTTP session."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def client(simulator: Simulator, session: aiohttp.ClientSession) -> Client:
    """Return a client that is logged in."""
    client = Client(session, simulator)
    assert await client.log_in() == 0
    return client


def only_plant(home: Home) -> Plant:
    """Return the only plant of a home."""
    [plant] = home.plants
    return plant


def device_of(home: Home, type_id: int) -> Device:
    """Return the first device of a type."""
    return next(device for _, device in home.devices() if device.type_id == type_id)


def at(home: Home, moment: datetime) -> Simulator:
    """Return a simulator at a time."""
    return Simulator(home, SetClock(moment))


# Physics.


@pytest.mark.parametrize("name", ALL_HOMES)
@settings(max_examples=40, deadline=None)
@given(minutes=st.integers(0, 700 * 1440), seconds=st.floats(0, 59.9))
def test_powers_balance_at_every_moment(
    name: str, minutes: int, seconds: float
) -> None:
    """At every moment, the powers are balanced."""
    moment = datetime(2025, 1, 3, tzinfo=UTC) + timedelta(
        minutes=minutes, seconds=seconds
    )
    home = ALL_HOMES[name]()
    flows = at(home, moment).flows(only_plant(home).code)
    assert flows.pv + flows.grid_import + flows.discharge == pytest.approx(
        flows.load + flows.grid_export + flows.charge + flows.losses, abs=1e-6
    )
    assert (
        min(
            flows.pv,
            flows.load,
            flows.grid_import,
            flows.grid_export,
            flows.charge,
            flows.discharge,
            flows.losses,
        )
        >= 0
    )
    assert flows.grid_import * flows.grid_export == 0
    assert flows.charge * flows.discharge == 0


@pytest.mark.parametrize("name", ALL_HOMES)
def test_energies_are_the_integral_of_the_powers(name: str) -> None:
    """Energies equal sums over seconds, even across the end of a simulated day."""
    home = ALL_HOMES[name]()
    plant = only_plant(home)
    start = datetime(2026, 5, 4, 0, 30, 20, tzinfo=UTC)
    end = datetime(2026, 5, 5, 13, 10, 40, tzinfo=UTC)
    simulator = at(home, end)
    energy = simulator.energy(plant.code, start, end)
    steps = int((end - start).total_seconds()) // 20
    moments = [start + timedelta(seconds=20 * step) for step in range(steps)]
    flows = [simulator.flows(plant.code, moment) for moment in moments]
    for field in ("pv", "load", "grid_import", "grid_export", "charge", "discharge"):
        total = sum(getattr(flow, field) for flow in flows) * 20 / 3_600_000
        assert getattr(energy, field) == pytest.approx(total, rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 650 * 1440), min_size=3, max_size=3, unique=True))
def test_energies_add_up(minutes: list[int]) -> None:
    """Energy between two times is the sum of its parts, in blocks of days or not."""
    first, middle, last = (
        datetime(2025, 1, 3, tzinfo=UTC) + timedelta(minutes=minute)
        for minute in sorted(minutes)
    )
    home = homes.family()
    code = only_plant(home).code
    simulator = at(home, NOON)
    whole = simulator.energy(code, first, last)
    parts = simulator.energy(code, first, middle), simulator.energy(code, middle, last)
    assert whole.pv == pytest.approx(parts[0].pv + parts[1].pv, abs=1e-6)
    assert whole.load == pytest.approx(parts[0].load + parts[1].load, abs=1e-6)


@pytest.mark.parametrize("name", ["family", "emma", "farm", "telecom"])
def test_state_of_charge_follows_energy(name: str) -> None:
    """The state of charge follows from the charged and discharged energy."""
    home = ALL_HOMES[name]()
    plant = only_plant(home)
    battery = plant.site.battery
    assert battery is not None
    start = datetime(2026, 5, 4, 2, 0, tzinfo=UTC)
    for hours in (3, 9, 15, 20):
        moment = start + timedelta(hours=hours)
        energy = at(home, moment).energy(plant.code, start, moment)
        stored = (
            energy.charge * battery.efficiency - energy.discharge / battery.efficiency
        )
        soc = battery.floor * 100 + stored * 1000 / battery.capacity_wh * 100
        assert plant.site.state(moment.timestamp())[0] == pytest.approx(soc, abs=0.01)


def test_battery_does_not_jump_before_dawn() -> None:
    """Emptying the battery at the end of a night neither loses nor adds energy."""
    site = only_plant(homes.family()).site
    for day in range(0, 400, 5):
        turn = datetime(2025, 2, 1, 2, 0, tzinfo=UTC).timestamp() + day * 86400
        before, after = site.state(turn - 60)[0], site.state(turn)[0]
        # A minute at full power changes it by less than a percent.
        assert before == pytest.approx(after, abs=1.0)


def test_yearly_yield_of_the_place() -> None:
    """Berlin yields about 900 kWh per kWp, most of it in summer."""
    home = homes.family()
    plant = only_plant(home)
    simulator = at(home, NOON)

    def specific(month: int, months: int) -> float:
        start = datetime(2025 + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)
        stop = month + months
        end = datetime(2025 + (stop - 1) // 12, (stop - 1) % 12 + 1, 1, tzinfo=UTC)
        return simulator.energy(plant.code, start, end).pv / plant.capacity_kwp

    assert specific(2, 12) == pytest.approx(900, rel=0.12)
    assert specific(6, 1) > 3 * specific(12, 1)


def test_string_inverters_clip_and_never_exceed_their_panels() -> None:
    """The AC power stays below the limit and below the DC power."""
    home = homes.farm()
    plant = only_plant(home)
    outputs = [
        (items["active_power"], items["mppt_power"])
        for hour in range(24)
        for items in [
            at(home, datetime(2026, 5, 20, hour, tzinfo=UTC)).device_items(
                device_of(home, DeviceType.STRING_INVERTER).id
            )
        ]
    ]
    assert all(ac <= 50.0 for ac, _ in outputs)
    assert all(ac <= dc for ac, dc in outputs)
    assert max(ac for ac, _ in outputs) > 20
    assert plant.capacity_kwp == 240


# Data items.


@pytest.mark.parametrize("type_id", DOCUMENT["device_realtime"])
@pytest.mark.parametrize("moment", [NOON, NIGHT])
def test_every_documented_item_is_sent(type_id: str, moment: datetime) -> None:
    """Each device type sends all documented keys, with null where required."""
    documented = DOCUMENT["device_realtime"][type_id]["items"]
    home = next(
        home
        for home in (factory() for factory in ALL_HOMES.values())
        if any(device.type_id == int(type_id) for _, device in home.devices())
    )
    items = at(home, moment).device_items(device_of(home, int(type_id)).id)
    assert {item["key"] for item in documented} <= set(items)
    for item in documented:
        assert (items[item["key"]] is None) is item["always_null"], item["key"]


@pytest.mark.parametrize("type_id", DOCUMENT["device_history"])
async def test_every_documented_history_item_is_sent(type_id: str) -> None:
    """History rows have the documented history keys, without run_state."""
    documented = {item["key"] for item in DOCUMENT["device_history"][type_id]["items"]}
    home = next(
        home
        for home in (factory() for factory in ALL_HOMES.values())
        if any(device.type_id == int(type_id) for _, device in home.devices())
    )
    simulator = Simulator(home, SetClock(NOON), quotas=False)
    now = int(NOON.timestamp() * 1000)
    async with simulator.serve(), aiohttp.ClientSession() as session:
        client = Client(session, simulator)
        await client.log_in()
        answer = await client.call(
            "getDevHistoryKpi",
            devIds=str(device_of(home, int(type_id)).id),
            devTypeId=int(type_id),
            startTime=now,
            endTime=now,
        )
    [row] = answer["data"]
    assert documented <= set(row["dataItemMap"])
    assert "run_state" not in row["dataItemMap"]


def test_plant_items() -> None:
    """A plant sends the documented items, and optionally two newer ones."""
    home = homes.family()
    plant = only_plant(home)
    documented = {item["key"] for item in DOCUMENT["plant_realtime"]}
    newer = {"day_on_grid_energy", "day_use_energy"}
    assert set(at(home, NOON).plant_items(plant.code)) == documented | newer
    plant.newer_items = False
    assert set(at(home, NOON).plant_items(plant.code)) == documented


def test_newer_battery_items_are_an_option() -> None:
    """Older servers send only the daily energies of a battery."""
    home = homes.family()
    battery = device_of(home, DeviceType.BATTERY)
    newer = {
        "total_charged_energy",
        "total_discharged_energy",
        "rated_capacity",
        "battery_unit_info",
    }
    assert newer <= set(at(home, NOON).device_items(battery.id))
    only_plant(home).newer_items = False
    assert not newer & set(at(home, NOON).device_items(battery.id))


@pytest.mark.parametrize("hour", range(24))
def test_signs_and_units(hour: int) -> None:
    """Power sensors count export as positive, in W; batteries count charge."""
    moment = NOON.replace(hour=hour)
    home = homes.family()
    simulator = at(home, moment)
    flows = simulator.flows(only_plant(home).code)
    sensor = simulator.device_items(device_of(home, DeviceType.POWER_SENSOR).id)
    battery = simulator.device_items(device_of(home, DeviceType.BATTERY).id)
    inverter = simulator.device_items(
        device_of(home, DeviceType.RESIDENTIAL_INVERTER).id
    )
    exported = flows.grid_export - flows.grid_import
    assert sensor["active_power"] == pytest.approx(exported, abs=1)
    phases = sum(sensor[f"active_power_{phase}"] for phase in "abc")
    assert phases == pytest.approx(exported, abs=2)
    charging = flows.charge - flows.discharge
    assert battery["ch_discharge_power"] == pytest.approx(charging, abs=1)
    assert inverter["active_power"] * 1000 - exported == pytest.approx(
        flows.load, abs=2
    )
    assert sensor["meter_u"] * sensor["meter_i"] == pytest.approx(
        abs(sensor["active_power_a"]), abs=1
    )


def test_sign_and_unit_of_emma() -> None:
    """EMMA counts import as positive."""
    home = homes.emma()
    simulator = at(home, NOON)
    flows = simulator.flows(only_plant(home).code)
    items = simulator.device_items(device_of(home, DeviceType.EMMA).id)
    imported = (flows.grid_import - flows.grid_export) / 1000
    assert imported < -1
    assert items["active_power"] == pytest.approx(imported, abs=0.001)
    later = at(home, NOON + timedelta(hours=1))
    energy = later.energy(only_plant(home).code, NOON, NOON + timedelta(hours=1))
    grown = later.device_items(device_of(home, DeviceType.EMMA).id)
    assert grown["reverse_active_cap"] - items["reverse_active_cap"] == pytest.approx(
        energy.grid_export, abs=0.011
    )


def test_meters_of_the_older_generation_report_kw() -> None:
    """The total and the phases of a grid meter are in W or in kW."""
    home = homes.farm()
    meter = device_of(home, DeviceType.GRID_METER)
    newer = at(home, NOON).device_items(meter.id)
    only_plant(home).firmware = "kw"
    older = at(home, NOON).device_items(meter.id)
    for key in ("active_power", "active_power_a", "active_power_b", "active_power_c"):
        assert older[key] == pytest.approx(newer[key] / 1000, abs=0.001)
    assert abs(newer["active_power_b"]) == pytest.approx(
        newer["b_u"] * newer["b_i"], rel=0.01, abs=1
    )


@pytest.mark.parametrize(("positive", "sign"), [("charge", 1), ("discharge", -1)])
def test_the_sign_of_the_ess_is_an_option(positive: Any, sign: int) -> None:
    """The sign of a C&I storage is an option."""
    home = homes.farm()
    plant = only_plant(home)
    plant.ess_positive = positive
    evening = datetime(2026, 6, 21, 19, 0, tzinfo=UTC)
    items = at(home, evening).device_items(device_of(home, DeviceType.ESS).id)
    flows = at(home, evening).flows(plant.code)
    assert flows.discharge > 0
    assert items["ch_discharge_power"] == pytest.approx(-sign * flows.discharge, abs=1)


def test_strings_carry_the_power_of_their_mppt() -> None:
    """The sum of voltage times current of all strings is the DC power."""
    for home, type_id, inputs in (
        (homes.family(), DeviceType.RESIDENTIAL_INVERTER, 8),
        (homes.farm(), DeviceType.STRING_INVERTER, 28),
    ):
        items = at(home, NOON).device_items(device_of(home, type_id).id)
        power = sum(items[f"pv{n}_u"] * items[f"pv{n}_i"] for n in range(1, inputs + 1))
        assert power == pytest.approx(items["mppt_power"] * 1000, rel=0.005)
        assert items[f"pv{inputs}_u"] == items[f"pv{inputs}_i"] == 0.0
        assert f"pv{inputs + 1}_u" not in items
        ac = sum(items[f"{phase}_u"] * items[f"{phase}_i"] for phase in "abc")
        assert ac == pytest.approx(items["active_power"] * 1000, rel=0.005)


def test_an_inverter_without_battery_sleeps_at_night() -> None:
    """State, times and voltages differ between day and night."""
    home = homes.apartment()
    inverter = device_of(home, DeviceType.RESIDENTIAL_INVERTER)
    day = at(home, NOON).device_items(inverter.id)
    night = at(home, NIGHT).device_items(inverter.id)
    assert (day["inverter_state"], night["inverter_state"]) == (512.0, 40960.0)
    assert day["close_time"] == "N/A"
    assert day["open_time"] < NOON.timestamp() * 1000 < night["close_time"]
    assert night["close_time"] < NIGHT.timestamp() * 1000
    assert night["a_u"] == night["active_power"] == night["pv1_u"] == 0.0
    assert 225 < day["a_u"] < 240
    assert day["b_u"] == day["c_i"] == 0.0
    assert night["run_state"] == 1


def test_items_of_single_phase_power_sensors() -> None:
    """The keys of phases B and C are N/A."""
    home = homes.apartment(meter=True)
    items = at(home, NOON).device_items(device_of(home, DeviceType.POWER_SENSOR).id)
    assert items["b_u"] == items["active_power_a"] == items["ab_u"] == "N/A"
    assert items["meter_u"] * items["meter_i"] == pytest.approx(
        abs(items["active_power"]), abs=1
    )


# Counters.


def test_lifetime_counters_grow_by_the_energy() -> None:
    """The rise of the counters in a week is the true energy."""
    home = homes.family()
    plant = only_plant(home)
    end = NOON + timedelta(days=7)
    energy = at(home, end).energy(plant.code, NOON, end)
    for type_id, key, expected in (
        (DeviceType.POWER_SENSOR, "active_cap", energy.grid_export),
        (DeviceType.POWER_SENSOR, "reverse_active_cap", energy.grid_import),
        (DeviceType.BATTERY, "total_charged_energy", energy.charge),
        (DeviceType.BATTERY, "total_discharged_energy", energy.discharge),
    ):
        device = device_of(home, type_id)
        before = at(home, NOON).device_items(device.id)[key]
        after = at(home, end).device_items(device.id)[key]
        assert before > 100
        assert after - before == pytest.approx(expected, abs=0.011)
    inverter = device_of(home, DeviceType.RESIDENTIAL_INVERTER)
    before, after = (
        sum(at(home, moment).device_items(inverter.id)[f"mppt_{n}_cap"] for n in (1, 2))
        for moment in (NOON, end)
    )
    assert after - before == pytest.approx(energy.pv, abs=0.03)


@pytest.mark.parametrize("day", [21, 28])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "America/New_York"])
def test_daily_counters_reset_at_local_midnight(day: int, zone: str) -> None:
    """A daily counter is complete at 23:55, and 0 at midnight."""
    home = homes.family(time_zone=zone)
    plant = only_plant(home)
    midnight = datetime(2026, 6, day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    start = midnight - timedelta(days=1)
    last = midnight - timedelta(minutes=5)
    evening = at(home, midnight - timedelta(seconds=1)).plant_items(plant.code)
    energy = at(home, last).energy(plant.code, start, last)
    assert evening["day_use_energy"] == pytest.approx(energy.load, abs=0.006)
    assert evening["day_on_grid_energy"] == pytest.approx(energy.grid_export, abs=0.006)
    assert evening["day_use_energy"] > 5
    morning = at(home, midnight).plant_items(plant.code)
    assert morning["day_use_energy"] == morning["day_power"] == 0.0
    assert morning["total_power"] >= evening["total_power"]


@pytest.mark.parametrize(
    ("date", "hours"), [((2026, 3, 29), 23), ((2025, 10, 26), 25), ((2026, 5, 5), 24)]
)
def test_days_of_clock_changes(date: tuple[int, int, int], hours: int) -> None:
    """A day of 23 or 25 hours has the energy of 23 or 25 hours."""
    home = homes.family()
    plant = only_plant(home)
    start = datetime(*date, tzinfo=BERLIN).astimezone(UTC)
    last = start + timedelta(hours=hours) - timedelta(minutes=5)
    items = at(home, last).plant_items(plant.code)
    energy = at(home, last).energy(plant.code, start, last)
    assert items["day_use_energy"] == pytest.approx(energy.load, abs=0.006)
    after = at(home, start + timedelta(hours=hours)).plant_items(plant.code)
    assert after["day_use_energy"] == 0.0


def test_monthly_counter_resets_on_the_local_first() -> None:
    """A month ends with its last day in the plant's time zone."""
    home = homes.family()
    plant = only_plant(home)
    first = datetime(2026, 6, 1, tzinfo=BERLIN).astimezone(UTC)
    evening = at(home, first - timedelta(seconds=1)).plant_items(plant.code)
    morning = at(home, first).plant_items(plant.code)
    assert evening["month_power"] > 500
    assert morning["month_power"] == 0.0


def test_plant_yield_without_battery() -> None:
    """The plant's yield is the sum of its inverters' yields."""
    home = homes.farm()
    simulator = at(home, NOON)
    inverters = sum(
        simulator.device_items(device.id)["day_cap"]
        for _, device in home.devices()
        if device.type_id == DeviceType.STRING_INVERTER
    )
    assert simulator.plant_items(only_plant(home).code)["day_power"] == pytest.approx(
        inverters, abs=0.03
    )


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.integers(0, 900 * 288).map(
            lambda step: datetime(2025, 1, 3, tzinfo=UTC) + timedelta(minutes=5 * step)
        ),
        min_size=2,
        max_size=6,
    )
)
def test_answers_do_not_depend_on_earlier_requests(moments: list[datetime]) -> None:
    """A seed gives the same responses in any order of requests."""

    def answers(order: list[datetime], seed: int) -> dict[datetime, Any]:
        home = homes.family(seed=seed)
        return {moment: at(home, moment).plant_items("NE=35436840") for moment in order}

    forward = answers(moments, 1)
    _days_of.cache_clear()
    assert answers(moments[::-1], 1) == forward


def test_another_seed_is_another_year() -> None:
    """Weather and loads depend on the seed."""
    one, two = (
        at(homes.family(seed=seed), NOON).plant_items("NE=35436840") for seed in (1, 2)
    )
    assert one["day_use_energy"] != two["day_use_energy"]


def test_values_are_those_of_the_last_full_five_minutes() -> None:
    """Values are collected every five minutes."""
    home = homes.family()
    code = only_plant(home).code
    items = [
        at(home, NOON + timedelta(seconds=seconds)).plant_items(code)
        for seconds in (0, 299, 300)
    ]
    assert items[0] == items[1] != items[2]


def test_times_before_commissioning() -> None:
    """Requests for the time before commissioning are errors of the test."""
    home = homes.family()
    with pytest.raises(ValueError, match="2025-01-01"):
        at(home, datetime(2024, 6, 1, tzinfo=UTC)).flows(only_plant(home).code)


# Clocks.


def test_clocks() -> None:
    """A real clock, a faster one and a fixed one."""
    with freeze_time(NOON) as frozen:
        real, sped = RealClock(), SpedClock(60, NIGHT)
        frozen.tick(timedelta(seconds=10))
        assert real.now() == NOON + timedelta(seconds=10)
        assert sped.now() == NIGHT + timedelta(minutes=10)
        assert SpedClock(2).now() == real.now()
    clock = SetClock(NOON)
    clock.tick(timedelta(minutes=5))
    assert clock.now() == NOON + timedelta(minutes=5)
    clock.set(NIGHT)
    assert clock.now() == NIGHT


# Interfaces.


async def test_login_hands_out_the_token_twice(
    simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    """The token comes in a header and in a cookie."""
    async with session.post(
        f"{simulator.url}/thirdData/login",
        json={"userName": "demo_api", "systemCode": "Simulated-1"},
    ) as response:
        token = response.headers["XSRF-TOKEN"]
        assert token.startswith("x-")
        assert len(token) == 128
        assert response.cookies["XSRF-TOKEN"].value == token
        assert (await response.json())["success"] is True


async def test_stations(client: Client, simulator: Simulator) -> None:
    """The new plant list has kWp, coordinates as strings, and no params."""
    answer = await client.call("stations", pageNo=1)
    assert "params" not in answer
    [row] = answer["data"]["list"]
    assert row["plantCode"] == only_plant(simulator.home).code
    assert row["capacity"] == 11.34
    assert row["latitude"] == "52.520000"
    assert row["gridConnectionDate"] == "2025-01-01T16:23:00+01:00"
    assert await client.code("stations") == 30004
    assert await client.code("getStationList") == 401


async def test_old_accounts_have_the_old_plant_list(
    session: aiohttp.ClientSession,
) -> None:
    """It is a bare array in MW, and in pages only on request."""
    simulator = Simulator(homes.family(), SetClock(NOON), account="old")
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        assert await client.code("stations", pageNo=1) == 401
        [row] = (await client.call("getStationList"))["data"]
        assert row["capacity"] == 0.01134
        paged = await client.call("getStationList", pageNo=1, pageSize=50)
        assert paged["data"]["list"] == [row]


@pytest.mark.parametrize("home", [homes.fleet(plants=230, devices=230)])
async def test_pages_of_plants(client: Client, simulator: Simulator) -> None:
    """A page holds 100 plants."""
    pages = [
        (await client.call("stations", pageNo=page))["data"] for page in (1, 2, 3, 4)
    ]
    assert [len(page["list"]) for page in pages] == [100, 100, 30, 0]
    assert pages[0]["pageCount"] == 3
    assert pages[0]["total"] == 230
    codes = ",".join(plant.code for plant in simulator.home.plants[:101])
    assert await client.code("getStationRealKpi", stationCodes=codes) == 20015
    assert await client.code("getDevList", stationCodes=codes) == 20015


async def test_device_list(client: Client, simulator: Simulator) -> None:
    """IDs are exact, and some devices have no serial number."""
    code = only_plant(simulator.home).code
    answer = await client.call("getDevList", stationCodes=code)
    assert answer["params"] == {
        "stationCodes": code,
        "currentTime": int(NOON.timestamp() * 1000),
    }
    rows = {row["devTypeId"]: row for row in answer["data"]}
    assert rows[38]["id"] == 1000000035436842
    assert rows[38]["devDn"] == "NE=35436842"
    assert rows[38]["invType"] == "SUN2000-8KTL-M1"
    assert rows[39]["esnCode"] is rows[47]["esnCode"] is None
    assert rows[62]["esnCode"]


async def test_live_values_are_the_true_ones(
    client: Client, simulator: Simulator
) -> None:
    """The server sends the true values of the simulator."""
    plant = only_plant(simulator.home)
    answer = await client.call("getStationRealKpi", stationCodes=plant.code)
    assert answer["data"] == [
        {
            "stationCode": plant.code,
            "dataItemMap": simulator.plant_items(plant.code),
        }
    ]
    battery = device_of(simulator.home, DeviceType.BATTERY)
    answer = await client.devices(battery, devTypeId="39")
    assert answer["data"] == [
        {
            "devId": battery.id,
            "sn": "null",
            "dataItemMap": simulator.device_items(battery.id),
        }
    ]
    assert answer["params"]["devTypeId"] == "39"


async def test_history_equals_live_values(
    client: Client, simulator: Simulator, clock: SetClock
) -> None:
    """Each row equals the live response of its time, except for live-only items."""
    inverter = device_of(simulator.home, DeviceType.RESIDENTIAL_INVERTER)
    clock.set(NOON + timedelta(hours=2))
    await client.log_in()
    answer = await client.call(
        "getDevHistoryKpi",
        devIds=str(inverter.id),
        devTypeId=38,
        startTime=int((NOON - timedelta(hours=1)).timestamp() * 1000) + 1,
        endTime=int((NOON + timedelta(hours=9)).timestamp() * 1000),
    )
    rows = answer["data"]
    times = [row["collectTime"] for row in rows]
    first = int(NOON.timestamp() * 1000) - 55 * 60_000
    assert times == list(range(first, first + 36 * 300_000, 300_000))
    unused = {f"pv{number}_{unit}": None for number in range(3, 9) for unit in "ui"}
    for row in rows[::7]:
        clock.set(datetime.fromtimestamp(row["collectTime"] / 1000, UTC))
        live = simulator.device_items(inverter.id)
        del live["run_state"]
        assert row["dataItemMap"] == live | unused


async def test_refused_requests(client: Client, simulator: Simulator) -> None:
    """Invalid requests have the documented codes."""
    code = only_plant(simulator.home).code
    inverter = device_of(simulator.home, 38).id
    now = int(NOON.timestamp() * 1000)
    day = 86_400_000
    history = {"devIds": str(inverter), "devTypeId": 38, "startTime": now - day}
    for expected, interface, body in (
        (20010, "getStationRealKpi", {}),
        (20007, "getStationRealKpi", {"stationCodes": "NE=1"}),
        (20010, "getDevList", {"stationCodes": ""}),
        (20011, "getDevRealKpi", {"devTypeId": 38}),
        (20013, "getDevRealKpi", {"devIds": str(inverter), "devTypeId": 62}),
        (20013, "getDevRealKpi", {"devIds": str(inverter)}),
        (20006, "getDevRealKpi", {"devIds": str(inverter), "devTypeId": 39}),
        (20008, "getDevRealKpi", {"devIds": "77", "devTypeId": 38}),
        (20017, "getDevRealKpi", {"devIds": "1," * 101, "devTypeId": 38}),
        (0, "getDevRealKpi", {"devIds": f"{inverter},77", "devTypeId": 38}),
        (0, "getDevRealKpi", {"sns": "HV0035436842", "devTypeId": "38"}),
        (30031, "getDevHistoryKpi", history | {"devIds": "1," * 11, "endTime": now}),
        (20023, "getDevHistoryKpi", history | {"endTime": now - 2 * day}),
        (30032, "getDevHistoryKpi", history | {"endTime": now + 3 * day}),
        (
            20026,
            "getDevHistoryKpi",
            history | {"startTime": now - 366 * day, "endTime": now - 365 * day},
        ),
        (20012, "getDevHistoryKpi", history),
        (20013, "getDevHistoryKpi", history | {"devTypeId": 60044, "endTime": now}),
        (0, "getDevHistoryKpi", history | {"endTime": now}),
    ):
        answer = await client.call(interface, **body)
        assert (answer["failCode"], interface, body) == (expected, interface, body)
        assert answer["params"] == body | {"currentTime": now}
    answer = await client.call("getDevRealKpi", devIds=f"77,{inverter}", devTypeId=38)
    assert [row["devId"] for row in answer["data"]] == [inverter]
    assert await client.code("getStationRealKpi", stationCodes=code) == 0


async def test_other_paths_are_web_pages(
    simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    """Unknown paths return a web page, as in a portal."""
    for method, path in (("GET", "/"), ("POST", "/thirdData/x"), ("POST", "/login")):
        async with session.request(method, simulator.url + path) as response:
            assert response.status == 404
            assert response.content_type == "text/html"


# Reports.

R23_HOUR = {
    "radiation_intensity",
    "theory_power",
    "inverter_power",
    "ongrid_power",
    "power_profit",
}
R23_DAY = R23_HOUR | {
    "installed_capacity",
    "performance_ratio",
    "use_power",
    "perpower_ratio",
    "reduction_total_co2",
    "reduction_total_coal",
    "reduction_total_tree",
}
NEWER_REPORT = {
    "PVYield",
    "inverterYield",
    "selfUsePower",
    "selfProvide",
    "buyPower",
    "chargeCap",
    "dischargeCap",
    "use_power",
    "perpower_profit",
}
REPORTED_ENERGIES = (
    "PVYield",
    "inverterYield",
    "use_power",
    "ongrid_power",
    "buyPower",
    "chargeCap",
    "dischargeCap",
)
HOUR = timedelta(hours=1)


def report(
    simulator: Simulator, period: str, moment: datetime = NOON
) -> list[dict[str, Any]]:
    """Return the items of the rows of a report, with their start in the plant's zone."""
    plant = only_plant(simulator.home)
    return [
        row["dataItemMap"]
        | {"start": datetime.fromtimestamp(row["collectTime"] / 1000, plant.time_zone)}
        for row in simulator.reports.rows(
            f"getKpiStation{period}", plant, moment.timestamp()
        )
    ]


@pytest.mark.parametrize("name", ALL_HOMES)
@pytest.mark.parametrize("side", ["dc", "ac"])
@pytest.mark.parametrize("period", ["Hour", "Day", "Month", "Year"])
def test_identities_of_reports(name: str, side: Any, period: str) -> None:
    """T#271: the energies of each row agree to the last digit."""
    home = ALL_HOMES[name]()
    plant = only_plant(home)
    plant.newer_items, plant.yield_side = True, side
    for row in report(at(home, NIGHT), period):
        charge, discharge = row["chargeCap"] or 0, row["dischargeCap"] or 0
        pv, capacity = row["PVYield"], plant.reported_capacity_kwp
        for value, same in (
            (row["inverter_power"], pv),
            (row["inverterYield"], pv - charge + discharge),
            (row["selfProvide"], row["inverterYield"] - row["ongrid_power"]),
            (row["selfUsePower"], pv - row["ongrid_power"]),
            (row["use_power"], row["buyPower"] + row["selfProvide"]),
        ):
            assert value == round(same, 2)
        if period != "Hour":
            avoided = row["inverterYield"] / 1000
            assert row["installed_capacity"] == capacity
            assert row["perpower_ratio"] == pytest.approx(pv / capacity, abs=6e-4)
            assert row["reduction_total_co2"] == pytest.approx(
                avoided * 0.475, abs=6e-4
            )
            assert row["reduction_total_coal"] == pytest.approx(avoided * 0.4, abs=6e-4)
            assert row["reduction_total_tree"] == pytest.approx(
                avoided * 0.646, abs=6e-4
            )


@pytest.mark.parametrize("side", ["dc", "ac"])
def test_reports_add_up(side: Any) -> None:
    """The hours add up to the day, the days to the month, the months to the year."""
    home = homes.family()
    only_plant(home).yield_side = side
    simulator = at(home, NIGHT)
    for part, whole in (("Hour", "Day"), ("Day", "Month"), ("Month", "Year")):
        rows, total = report(simulator, part, NIGHT), report(simulator, whole, NIGHT)
        for key in REPORTED_ENERGIES:
            added = sum(row[key] for row in rows if row[key] is not None)
            assert round(added, 2) == total[-1][key], (part, key)


def reported(home: Home, key: str) -> float:
    """Return the energy that the plant has reported for all years."""
    return sum((year[key] for year in report(at(home, NOON), "Year")), 0.0)


def counted(home: Home, type_id: int, *keys: str) -> float:
    """Return the energy that a device has counted since its first moment."""
    begin = datetime.fromtimestamp(only_plant(home).site.begin, UTC)
    device = device_of(home, type_id)
    last, first = (at(home, each).device_items(device.id) for each in (NOON, begin))
    return sum((last[key] - first[key] for key in keys), 0.0)


@pytest.mark.parametrize(
    ("key", "type_id", "counters"),
    [
        ("buyPower", DeviceType.POWER_SENSOR, ["reverse_active_cap"]),
        ("ongrid_power", DeviceType.POWER_SENSOR, ["active_cap"]),
        ("chargeCap", DeviceType.BATTERY, ["total_charged_energy"]),
        ("dischargeCap", DeviceType.BATTERY, ["total_discharged_energy"]),
        ("PVYield", DeviceType.RESIDENTIAL_INVERTER, ["mppt_1_cap", "mppt_2_cap"]),
    ],
)
def test_reports_are_those_of_the_counters(
    key: str, type_id: int, counters: list[str]
) -> None:
    """The energies since the first day are those that the counters have counted."""
    home = homes.family()
    only_plant(home).yield_side = "dc"
    assert reported(home, key) == pytest.approx(
        counted(home, type_id, *counters), abs=0.03
    )
    assert reported(home, key) > 100


def test_side_of_the_reported_yield() -> None:
    """The losses of a hybrid inverter are in the consumption, or not reported."""
    home = homes.family()
    plant = only_plant(home)
    plant.yield_side = "dc"
    begin = datetime.fromtimestamp(plant.site.begin, UTC)
    true = at(home, NOON).energy(plant.code, begin, NOON)
    assert reported(home, "use_power") == pytest.approx(
        true.load + true.losses, abs=0.05
    )
    plant.yield_side = "ac"
    assert reported(home, "use_power") == pytest.approx(true.load, abs=0.05)
    inverter = device_of(home, DeviceType.RESIDENTIAL_INVERTER)
    drawn = float(plant.site.energy(NOON.timestamp())[Row.STANDBY]) / 1000
    assert reported(home, "inverterYield") == pytest.approx(
        counted(home, inverter.type_id, "total_cap") - drawn, abs=0.05
    )
    assert report(at(home, NOON), "Day")[-1]["use_power"] == pytest.approx(
        at(home, NOON).plant_items(plant.code)["day_use_energy"], abs=0.02
    )


def test_reported_yield_without_a_battery() -> None:
    """Without a battery, the production is the inverters' yield."""
    home = homes.apartment()
    simulator = at(home, NOON)
    assert reported(home, "PVYield") == pytest.approx(
        counted(home, DeviceType.RESIDENTIAL_INVERTER, "total_cap"), abs=0.03
    )
    assert report(simulator, "Day")[-1]["PVYield"] == pytest.approx(
        simulator.plant_items(only_plant(home).code)["day_power"], abs=0.011
    )


@pytest.mark.parametrize(
    ("time_zone", "day", "rows"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29), 23),
        ("Europe/Berlin", datetime(2026, 10, 25), 25),
        ("Asia/Kolkata", datetime(2026, 3, 29), 24),
        ("Asia/Kathmandu", datetime(2026, 3, 29), 24),
        ("America/St_Johns", datetime(2026, 3, 8), 23),
        ("Asia/Beirut", datetime(2026, 3, 29), 23),
        ("America/Havana", datetime(2026, 11, 1), 25),
        ("Australia/Lord_Howe", datetime(2026, 4, 5), 24),
    ],
)
def test_hours_of_a_day(time_zone: str, day: datetime, rows: int) -> None:
    """Hours start at full hours of the plant's zone, on days of any length."""
    zone = ZoneInfo(time_zone)
    noon = day.replace(hour=12, tzinfo=zone)
    home = homes.family(time_zone=time_zone)
    simulator = at(home, noon + timedelta(days=30))
    hours = report(simulator, "Hour", noon)
    starts = [row["start"] for row in hours]
    assert len(starts) == rows
    assert {(start.date(), start.minute) for start in starts} == {(day.date(), 0)}
    [daily] = [
        row
        for row in report(simulator, "Day", noon)
        if row["start"].date() == day.date()
    ]
    for key in REPORTED_ENERGIES:
        assert round(sum(row[key] for row in hours), 2) == daily[key]


def test_reports_of_the_past_are_cheap() -> None:
    """Reports of any full hours need no calculation of their days."""
    home = homes.family(seed=77)
    plant = only_plant(home)
    plant.site = replace(plant.site, commissioned=date(2024, 6, 1))
    simulator = at(home, NOON)
    plant.site.energy(NOON.timestamp())
    days = set(_days_of(plant.site).days)
    for period in ("Hour", "Day", "Month"):
        assert len(report(simulator, period, NOON - timedelta(days=730))) > 11
    assert set(_days_of(plant.site).days) == days


def test_report_before_the_plant() -> None:
    """Months before the first one are null in its year, and absent before it."""
    home = homes.family()
    plant = only_plant(home)
    plant.site = replace(plant.site, commissioned=date(2026, 3, 14))
    simulator = at(home, NOON)
    january, february, march, *_, june = report(simulator, "Month")
    for row in (january, february):
        assert {row[key] for key in R23_DAY | NEWER_REPORT} == {None}
    assert march["PVYield"] > 0
    assert june["start"] == datetime(2026, 6, 1, tzinfo=BERLIN)
    before = datetime(2025, 6, 21, tzinfo=UTC)
    for period in ("Hour", "Day", "Month"):
        assert report(simulator, period, before) == []
        # Seconds in place of milliseconds.
        assert report(simulator, period, datetime(1970, 1, 21, tzinfo=UTC)) == []
    assert [row["start"].year for row in report(simulator, "Year", before)] == [2026]
    first, *_ = report(simulator, "Day", datetime(2026, 3, 20, tzinfo=UTC))
    assert first["start"] == datetime(2026, 3, 14, tzinfo=BERLIN)


def test_older_servers_report_fewer_items() -> None:
    """Older servers send the documented items only."""
    home = homes.family()
    simulator = at(home, NOON)
    for newer, hour, day in (
        (True, R23_HOUR | NEWER_REPORT, R23_DAY | NEWER_REPORT),
        (False, R23_HOUR, R23_DAY),
    ):
        only_plant(home).newer_items = newer
        for period in ("Hour", "Day", "Month", "Year"):
            expected = (hour if period == "Hour" else day) | {"start"}
            assert {*report(simulator, period)[-1]} == expected


def test_items_without_a_source_are_null() -> None:
    """Without a battery, or an irradiation sensor, their items are null."""
    day = report(at(homes.apartment(), NOON), "Day")[-1]
    null = {key for key, value in day.items() if value is None}
    stored = {"chargeCap", "dischargeCap"}
    radiation = {"radiation_intensity", "theory_power", "performance_ratio"}
    assert null == stored | radiation
    day = report(at(homes.farm(), NOON), "Day")[-1]
    assert None not in day.values()
    assert 50 < day["performance_ratio"] < 100


def test_lag_of_collections() -> None:
    """The values are those of the last collection that is shown already."""
    home = homes.family()
    code = home.plants[0].code
    simulator = at(home, NOON + timedelta(seconds=200))
    on_time = simulator.reported_items(code)
    simulator.collection.lag = 210.0
    late = simulator.reported_items(code)
    assert late == at(home, NOON - timedelta(seconds=1)).reported_items(code)
    assert late != on_time


def test_times_of_collections() -> None:
    """Collections are shown after the lag with its jitter, and can be moved."""
    noon = int(NOON.timestamp())
    collection = Collection(lag=60.0, jitter=10.0)
    assert collection.last(noon + 59.9) == noon - 300
    assert collection.last(noon + 70.0) == noon
    shown = {
        number
        for number in range(100)
        if collection.last(noon + 300 * number + 65.0) == noon + 300 * number
    }
    assert 20 < len(shown) < 80
    collection.moves += [(noon + 1, 60), (noon + 800, -60)]
    collections = [noon - 300, noon, noon + 360, noon + 660, noon + 900]
    assert [*collection.between(noon - 300, noon + 900)] == collections
    for last in collections:
        assert collection.last(last + 70.0) == last
        assert collection.last(last + 59.9) in {last - 240, last - 300, last - 360}


def test_lag_of_reports() -> None:
    """A report has the energies up to an earlier collection."""
    home = homes.family()
    simulator = at(home, NOON)
    on_time = report(simulator, "Hour")
    simulator.reports.lag = timedelta(minutes=80)
    late = report(simulator, "Hour")
    assert late[:-1] == on_time[: len(late) - 1]
    assert len(late) == len(on_time) - 1
    assert 0 < late[-1]["PVYield"] < on_time[len(late) - 1]["PVYield"]
    earlier = at(home, NOON - timedelta(minutes=80))
    assert report(earlier, "Hour") == late
    assert report(earlier, "Day") == report(simulator, "Day")


def test_gaps_of_reports() -> None:
    """Rows can be missing, or have null items."""
    simulator = at(homes.family(), NOON)
    whole = report(simulator, "Hour")
    gap = whole[5]["start"]
    simulator.reports.missing = lambda interface, start: (
        interface == "getKpiStationHour" and start == gap
    )
    assert report(simulator, "Hour") == whole[:5] + whole[6:]
    assert report(simulator, "Day")[-1]["start"].day == 21
    simulator.reports.nulls = True
    rows = report(simulator, "Hour")
    assert len(rows) == 24
    assert {**rows[5], "start": None} == dict.fromkeys(rows[5])
    assert rows[12:] == [
        dict.fromkeys(whole[0]) | {"start": whole[0]["start"] + hour * HOUR}
        for hour in range(12, 24)
    ]


def test_rounding_of_reports() -> None:
    """Energies can be rounded to other digits, and still agree."""
    simulator = at(homes.family(), NIGHT)
    simulator.reports.digits = 0
    hours = report(simulator, "Hour", NOON)
    assert all(row[key] % 1 == 0 for row in hours for key in REPORTED_ENERGIES)
    [day] = [row for row in report(simulator, "Day") if row["start"].day == 21]
    assert sum(row["buyPower"] for row in hours) == day["buyPower"]


def test_wrong_reports() -> None:
    """A report can be negative or recounted, until the fault is removed."""
    simulator = at(homes.family(), NOON)
    code = only_plant(simulator.home).code
    honest = report(simulator, "Day")
    start = honest[3]["start"]
    fault = simulator.reports.distort(
        "getKpiStationDay", code, "PVYield", reads(-3.5, start, HOUR)
    )
    wrong = report(simulator, "Day")
    assert wrong[3] == honest[3] | {"PVYield": -3.5}
    assert wrong[:3] + wrong[4:] == honest[:3] + honest[4:]
    fault.remove()
    assert report(simulator, "Day") == honest


@pytest.mark.parametrize("home", [homes.fleet(plants=2, devices=8)])
async def test_requests_of_reports(client: Client, simulator: Simulator) -> None:
    """Requests are answered with their parameters, by row, or refused."""
    closed, open_ = simulator.home.plants
    simulator.unauthorize(closed.code)
    both = f"{closed.code},{open_.code}"
    now = int(NOON.timestamp() * 1000)
    for interface in REPORTS:
        answer = await client.call(interface, stationCodes=both, collectTime=now)
        assert answer["params"] == {
            "stationCodes": both,
            "collectTime": now,
            "currentTime": now,
        }
        refused, *rows = answer["data"]
        assert refused == {
            "stationCode": closed.code,
            "dataItemMap": {},
            "failCode": 20056,
        }
        assert rows == simulator.reports.rows(interface, open_, NOON.timestamp())
        for code, body in (
            (20012, {"stationCodes": both}),
            (20010, {"collectTime": now}),
            (20007, {"stationCodes": "NE=1", "collectTime": now}),
            (20015, {"stationCodes": "NE=1," * 101, "collectTime": now}),
            (20056, {"stationCodes": closed.code, "collectTime": now}),
        ):
            assert await client.code(interface, **body) == code


# Account.


async def test_no_data_without_token(
    simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    """The body of a 305 has no data and no params."""
    client = Client(session, simulator)
    assert await client.call("stations", pageNo=1) == {
        "failCode": 305,
        "immediately": True,
        "message": "USER_MUST_RELOGIN",
    }


@pytest.mark.parametrize(("kind", "code"), [("sliding", 0), ("fixed", 305)])
async def test_token_lives_30_minutes(
    session: aiohttp.ClientSession, clock: SetClock, kind: Any, code: int
) -> None:
    """Use extends a sliding token, but not a fixed one."""
    simulator = Simulator(homes.family(), clock, quotas=False, session=kind)
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        clock.tick(timedelta(minutes=29, seconds=59))
        assert await client.code("stations", pageNo=1) == 0
        clock.tick(timedelta(minutes=29))
        assert await client.code("stations", pageNo=1) == code
        clock.tick(timedelta(minutes=30))
        assert await client.code("stations", pageNo=1) == 305


async def test_one_session_per_account(client: Client, simulator: Simulator) -> None:
    """Any login ends the previous session."""
    first = client.token
    await client.log_in()
    assert await client.code("stations", pageNo=1) == 0
    client.token = first
    assert await client.code("stations", pageNo=1) == 305
    await client.log_in()
    simulator.take_session()
    assert await client.code("stations", pageNo=1) == 305
    await client.log_in()
    simulator.expire_token()
    assert await client.code("stations", pageNo=1) == 305
    await client.log_in()
    assert await client.code("logout", xsrfToken=client.token) == 0
    assert await client.code("stations", pageNo=1) == 305


async def test_wrong_passwords_lock_the_account(
    client: Client, clock: SetClock
) -> None:
    """Five wrong passwords within ten minutes lock the account for 30 minutes."""
    for _ in range(4):
        answer = await client.call("login", userName="demo_api", systemCode="x")
        assert answer == {
            "success": False,
            "failCode": 20400,
            "message": "user.login.user_or_value_invalid",
        }
    assert await client.log_in() == 0
    for _ in range(5):
        assert await client.log_in("x") == 20400
    locked = await client.call("login", userName="demo_api", systemCode="Simulated-1")
    assert (locked["failCode"], locked["message"]) == (20400, "user.login.user_locked")
    clock.tick(timedelta(minutes=30))
    assert await client.log_in() == 0


async def test_slow_logins_do_not_lock(client: Client, clock: SetClock) -> None:
    """Wrong passwords expire after ten minutes."""
    for _ in range(6):
        assert await client.log_in("x") == 20400
        clock.tick(timedelta(minutes=2, seconds=31))
    assert await client.log_in() == 0


async def test_account_states(
    client: Client, simulator: Simulator, clock: SetClock
) -> None:
    """An account can be locked, disabled or expired, and its password can change."""
    simulator.lock(minutes=5)
    assert await client.code("stations", pageNo=1) == 305
    assert await client.log_in() == 20400
    clock.tick(timedelta(minutes=5))
    assert await client.log_in() == 0
    for code in (20002, 20003):
        simulator.disable(code)
        assert await client.log_in() == code
    simulator.disable(None)
    simulator.change_password("new")
    assert await client.log_in() == 20400
    assert await client.log_in("new") == 0


async def test_permissions(client: Client, simulator: Simulator) -> None:
    """Permissions for an interface can be withdrawn and granted."""
    simulator.withdraw_permission("stations")
    simulator.grant_permission("getStationList")
    assert await client.code("stations", pageNo=1) == 401
    assert await client.code("getStationList") == 0


@pytest.mark.parametrize("home", [homes.fleet(plants=2, devices=8)])
async def test_authorization_of_plants(client: Client, simulator: Simulator) -> None:
    """Values of a plant without authorization are an error, or are missing."""
    closed, open_ = simulator.home.plants
    simulator.unauthorize(closed.code)
    both = f"{closed.code},{open_.code}"
    rows = (await client.call("getStationRealKpi", stationCodes=both))["data"]
    assert rows[0] == {
        "stationCode": closed.code,
        "dataItemMap": {},
        "failCode": 20056,
    }
    assert rows[1]["dataItemMap"]["total_power"] > 0
    listed = (await client.call("getDevList", stationCodes=both))["data"]
    assert {row["stationCode"] for row in listed} == {open_.code}
    assert await client.code("getDevList", stationCodes=closed.code) == 20056
    meters = closed.devices[1], open_.devices[1]
    answer = await client.devices(*meters)
    assert [row["devId"] for row in answer["data"]] == [meters[1].id]
    assert (await client.devices(meters[0]))["failCode"] == 20056
    simulator.authorize(closed.code)
    assert await client.code("getDevList", stationCodes=closed.code) == 0


# Alarms.


def alarm_request(plant: Plant, **changes: Any) -> dict[str, Any]:
    """Return a request for the alarms of the last 90 days."""
    now = int(NOON.timestamp() * 1000)
    return {
        "stationCodes": plant.code,
        "beginTime": now - 90 * 86_400_000,
        "endTime": now,
        "language": "en_US",
        **changes,
    }


async def test_alarms(client: Client, simulator: Simulator, clock: SetClock) -> None:
    """An alarm is listed while it is active, later by the lag."""
    [plant] = simulator.home.plants
    inverter, battery = plant.devices[1:3]
    alarm = simulator.alarms.start(inverter)
    [row] = (await client.call("getAlarmList", **alarm_request(plant)))["data"]
    assert row == {
        "stationCode": plant.code,
        "stationName": plant.name,
        "devName": inverter.name,
        "devTypeId": 38,
        "esnCode": inverter.serial_number,
        "alarmId": 2064,
        "alarmName": "Device abnormal",
        "alarmCause": alarms.FAULT.texts["en_US"].cause,
        "alarmType": 2,
        "causeId": 5,
        "repairSuggestion": alarms.FAULT.texts["en_US"].advice,
        "lev": 2,
        "status": 1,
        "raiseTime": int(NOON.timestamp() * 1000),
    }
    simulator.alarms.lag = timedelta(minutes=10)
    assert (await client.call("getAlarmList", **alarm_request(plant)))["data"] == []
    clock.tick(timedelta(minutes=10))
    simulator.alarms.clear(alarm)
    simulator.alarms.start(
        battery, alarms.DISCONNECTED, NOON, esnCode=alarms.MISSING, lev=9
    )
    first, second = (await client.call("getAlarmList", **alarm_request(plant)))["data"]
    assert first == row
    assert (second["alarmId"], second["causeId"], second["lev"]) == (999999999, -1, 9)
    assert "esnCode" not in second
    simulator.alarms.lag = timedelta()
    [left] = (await client.call("getAlarmList", **alarm_request(plant)))["data"]
    assert left == second


async def test_languages_of_alarms(client: Client, simulator: Simulator) -> None:
    """Texts are in the language of the request, if the server has it."""
    [plant] = simulator.home.plants
    simulator.alarms.start(plant.devices[1])
    names = {}
    for language in alarms.LANGUAGES[:3]:
        request = alarm_request(plant, language=language)
        [row] = (await client.call("getAlarmList", **request))["data"]
        names[language] = row["alarmName"]
    assert names == {
        "zh_CN": "设备异常",
        "en_US": "Device abnormal",
        "ja_JP": "Device abnormal",
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"language": ""}, 20024),
        ({"language": "sv_SE"}, 20025),
        ({"stationCodes": ""}, 20055),
        ({"stationCodes": "NE=7"}, 20007),
        ({"stationCodes": ",".join(map(str, range(101)))}, 20015),
        ({"stationCodes": "", "sns": ",".join(map(str, range(101)))}, 20017),
        ({"beginTime": None}, 20012),
        ({"endTime": "1"}, 20023),
    ],
)
async def test_refused_requests_of_alarms(
    simulator: Simulator, client: Client, changes: dict[str, Any], code: int
) -> None:
    """Requests that the document does not allow are refused."""
    [plant] = simulator.home.plants
    request = alarm_request(plant, **changes)
    assert await client.code("getAlarmList", **request) == code


async def test_filters_of_alarms(client: Client, simulator: Simulator) -> None:
    """Alarms are chosen by time, level, device type and serial number."""
    [plant] = simulator.home.plants
    inverter, battery = plant.devices[1:3]
    simulator.alarms.start(inverter, alarms.GRID_LOSS, NOON - timedelta(days=91))
    simulator.alarms.start(inverter, alarms.FAULT)
    simulator.alarms.start(battery, alarms.UNDERVOLTAGE)

    async def ids(**changes: Any) -> list[int]:
        request = alarm_request(plant, **changes)
        rows = (await client.call("getAlarmList", **request))["data"]
        return [row["alarmId"] for row in rows]

    simulator.alarms.languages = alarms.TEN_LANGUAGES
    assert await ids() == [2064, 3011]
    assert await ids(beginTime=0, levels="1,2") == [2032, 2064]
    assert await ids(devTypes="39") == [3011]
    numbers = f"{inverter.serial_number}"
    assert await ids(beginTime=0, sns=numbers, stationCodes="") == [2032, 2064]


# Quotas.


@pytest.mark.parametrize(
    ("home", "interface", "body", "calls", "window"),
    [
        (homes.family(), "getStationRealKpi", {}, 1, timedelta(minutes=5)),
        (homes.family(), "getDevRealKpi", {}, 3, timedelta(minutes=5)),
        (homes.family(), "getDevList", {}, 25, timedelta(days=1)),
        (homes.family(), "stations", {"pageNo": 1}, 34, timedelta(days=1)),
        (homes.family(), "getStationList", {}, 24, timedelta(days=1)),
        (homes.family(), "getDevHistoryKpi", {}, 27, timedelta(days=1)),
        *((homes.family(), report, {}, 25, timedelta(days=1)) for report in REPORTS),
        (homes.family(), "getAlarmList", {}, 4, timedelta(minutes=30)),
        (
            homes.fleet(plants=101, devices=101 * 4),
            "getAlarmList",
            {},
            8,
            timedelta(minutes=30),
        ),
        (
            homes.fleet(plants=101, devices=101),
            "getKpiStationHour",
            {},
            26,
            timedelta(days=1),
        ),
        (
            homes.fleet(plants=101, devices=101 * 4),
            "getDevRealKpi",
            {},
            6,
            timedelta(minutes=5),
        ),
        (
            homes.fleet(plants=101, devices=101),
            "getStationRealKpi",
            {},
            2,
            timedelta(minutes=5),
        ),
    ],
)
async def test_quotas(
    session: aiohttp.ClientSession,
    clock: SetClock,
    home: Home,
    interface: str,
    body: dict[str, Any],
    calls: int,
    window: timedelta,
) -> None:
    """The published number of calls is allowed, and the next one is refused."""
    simulator = Simulator(home, clock)
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        codes = [await client.code(interface, **body) for _ in range(calls)]
        assert 407 not in codes
        refused = await client.call(interface, **body)
        assert refused["failCode"] == 407
        assert refused["data"] == "ACCESS_FREQUENCY_IS_TOO_HIGH"
        assert [call.interface for call in simulator.refusals] == [interface]
        # The refused call counts: it uses the first place that becomes free.
        clock.tick(window - timedelta(seconds=1))
        await client.log_in()
        assert await client.code(interface, **body) == 407
        clock.tick(timedelta(seconds=1))
        await client.log_in()
        assert (await client.code(interface, **body) == 407) is (calls == 1)


async def test_logins_are_limited(
    session: aiohttp.ClientSession, clock: SetClock
) -> None:
    """Five logins in ten minutes."""
    simulator = Simulator(homes.family(), clock)
    async with simulator.serve():
        client = Client(session, simulator)
        codes = [await client.log_in() for _ in range(6)]
        assert codes == [0, 0, 0, 0, 0, 407]
        clock.tick(timedelta(minutes=10))
        assert await client.log_in() == 0


async def test_old_quotas(session: aiohttp.ClientSession, clock: SetClock) -> None:
    """Older accounts allow one call a minute per interface."""
    simulator = Simulator(homes.family(), clock, quotas="old")
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        sensor = device_of(simulator.home, DeviceType.POWER_SENSOR)
        battery = device_of(simulator.home, DeviceType.BATTERY)
        assert (await client.devices(sensor))["failCode"] == 0
        assert (await client.devices(battery))["failCode"] == 407
        assert await client.code("stations", pageNo=1) == 0
        clock.tick(timedelta(minutes=1))
        assert (await client.devices(battery))["failCode"] == 0


async def test_quotas_of_all_but_history(
    session: aiohttp.ClientSession, clock: SetClock
) -> None:
    """A demo can have unlimited history, and quotas for all other calls."""
    simulator = Simulator(homes.family(), clock, quotas="all but history")
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        battery = device_of(simulator.home, DeviceType.BATTERY)
        now = int(clock.now().timestamp() * 1000)
        fields = {"devIds": str(battery.id), "devTypeId": 39}
        fields |= {"startTime": now, "endTime": now}
        codes = [await client.code("getDevHistoryKpi", **fields) for _ in range(60)]
        assert set(codes) == {0}
        codes = [await client.code("getStationRealKpi") for _ in range(2)]
        assert codes[-1] == 407


async def test_quotas_per_type(session: aiohttp.ClientSession, clock: SetClock) -> None:
    """Some servers have a quota for the devices of each type."""
    home = homes.fleet(plants=101, devices=101 * 4)
    home.plants[0].devices.remove(device_of(home, DeviceType.BATTERY))
    simulator = Simulator(home, clock, quotas="per type")
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        for type_id, calls in (
            (DeviceType.RESIDENTIAL_INVERTER, 2),
            (DeviceType.POWER_SENSOR, 2),
            (DeviceType.BATTERY, 1),
        ):
            device = device_of(home, type_id)
            for _ in range(calls):
                assert (await client.devices(device))["failCode"] == 0
            # A type that is sent as a word is the same type.
            refused = await client.devices(device, devTypeId=str(type_id))
            assert refused["failCode"] == 407


@pytest.mark.parametrize(
    ("interface", "calls", "window"),
    [
        ("getStationRealKpi", 1, timedelta(minutes=5)),
        ("getDevRealKpi", 3, timedelta(minutes=5)),
        ("login", 5, timedelta(minutes=10)),
        ("getDevList", 25, timedelta(days=1)),
    ],
)
async def test_fixed_windows(
    session: aiohttp.ClientSession,
    clock: SetClock,
    interface: str,
    calls: int,
    window: timedelta,
) -> None:
    """Windows that are aligned to the server's clock start over together."""
    midnight = datetime(2026, 6, 22, tzinfo=UTC)
    simulator = Simulator(homes.family(), clock, windows="fixed")
    async with simulator.serve():
        client = Client(session, simulator)

        async def codes_at(moment: datetime) -> list[Any]:
            clock.set(moment)
            if interface != "login":
                await client.log_in()
            return [await client.code(interface) for _ in range(calls + 1)]

        assert (await codes_at(midnight - timedelta(seconds=9))).index(407) == calls
        assert 407 not in (await codes_at(midnight))[:calls]
        assert set(await codes_at(midnight + window - timedelta.resolution)) == {407}
        assert (await codes_at(midnight + window)).index(407) == calls


async def test_daily_quotas_may_have_their_own_code(
    session: aiohttp.ClientSession, clock: SetClock
) -> None:
    """Newer servers have a separate code for a daily maximum."""
    simulator = Simulator(homes.family(), clock, daily_code=20618)
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        codes = [await client.code("getDevList") for _ in range(26)]
        assert codes == [20010] * 25 + [20618]
        codes = [await client.code("getStationRealKpi") for _ in range(2)]
        assert codes == [20010, 407]
        assert [call.fail_code for call in simulator.refusals] == [20618, 407]


@pytest.mark.parametrize(
    ("quotas", "windows"), [("pooled", "sliding"), ("per type", "fixed")]
)
async def test_quota_used_up_by_another_client(
    session: aiohttp.ClientSession, clock: SetClock, quotas: Any, windows: Any
) -> None:
    """The rest of a window is used up; the next window is available."""
    simulator = Simulator(homes.family(), clock, quotas=quotas, windows=windows)
    battery = device_of(simulator.home, DeviceType.BATTERY)
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        assert (await client.devices(battery))["failCode"] == 0
        clock.tick(timedelta(minutes=1))
        simulator.use_up("getDevRealKpi")
        assert await client.code("getStationRealKpi") == 20010
        clock.tick(timedelta(minutes=4, seconds=-1))
        sensor = device_of(simulator.home, DeviceType.POWER_SENSOR)
        assert (await client.devices(sensor))["failCode"] == 407
        assert len(simulator.refusals) == 1
        clock.tick(timedelta(minutes=2))
        assert (await client.devices(sensor))["failCode"] == 0


@pytest.mark.parametrize("quotas", [False, True])
async def test_a_day_may_be_limited(
    session: aiohttp.ClientSession, clock: SetClock, quotas: bool
) -> None:
    """A maximum per UTC day applies in addition to every other quota."""
    clock.set(datetime(2026, 6, 21, 23, 30, tzinfo=UTC))
    simulator = Simulator(homes.family(), clock, quotas=quotas)
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()

        async def codes(calls: int) -> list[Any]:
            return [await client.code("getDevList") for _ in range(calls)]

        assert await codes(3) == [20010] * 3
        simulator.limit_day("getDevList", 4)
        assert await codes(6) == [20010] * 4 + [20618] * 2
        assert len(simulator.refusals) == 2
        assert await client.code("getDevRealKpi") != 20618
        clock.tick(timedelta(minutes=29))
        assert await codes(1) == [20618]
        clock.tick(timedelta(minutes=1))
        assert await codes(5) == [20010] * 4 + [20618]
        simulator.limit_day("getDevList", None)
        assert await codes(1) == [20010]


async def test_another_client_logs_in(
    session: aiohttp.ClientSession, clock: SetClock
) -> None:
    """The other client's logins end the session and count, also if refused."""
    simulator = Simulator(homes.family(), clock)
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        assert simulator.log_in_elsewhere() is True
        assert await client.code("getDevList") == 305
        assert [await client.log_in() for _ in range(3)] == [0, 0, 0]
        assert simulator.log_in_elsewhere() is False
        assert await client.code("getDevList") == 20010
        assert simulator.refusals == []
        clock.tick(timedelta(minutes=10) - timedelta.resolution)
        assert await client.log_in() == 407
        clock.tick(timedelta.resolution)
        assert simulator.log_in_elsewhere() is True
        simulator.lock()
        assert simulator.log_in_elsewhere() is False


# Faults.


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (faults.HttpStatus(502, b"Bad"), 502, b"Bad"),
        (faults.Body(b"{]"), 200, b"{]"),
        (faults.EmptyBody(), 200, b""),
    ],
)
async def test_faults_of_bytes(
    client: Client,
    simulator: Simulator,
    fault: faults.Fault,
    status: int,
    body: bytes,
) -> None:
    """Responses of any status and bytes."""
    simulator.faults.add(fault)
    assert await client.raw("stations", {"pageNo": 1}) == (status, body)
    assert simulator.calls[-1].status == status


async def test_faults_of_gateways(client: Client, simulator: Simulator) -> None:
    """Gateways in front of the server have their own responses."""
    simulator.faults.add(faults.HtmlPage(), times=1)
    simulator.faults.add(faults.Gateway403(), times=1)
    simulator.faults.add(faults.GatewayException(), times=1)
    assert (await client.raw("stations"))[1].startswith(b"<!DOCTYPE html>")
    # All three faults were for one call, and the first one applied.
    assert (await client.raw("stations", {"pageNo": 1}))[1].startswith(b'{"success"')
    simulator.faults.add(faults.Gateway403(), times=1)
    status, body = await client.raw("stations")
    assert status == 403
    assert json.loads(body)["errorCode"] == "49401021002"
    simulator.faults.add(faults.GatewayException(), times=1)
    assert "exceptionId" in await client.call("stations")


async def test_fault_codes(client: Client, simulator: Simulator) -> None:
    """Any failCode, for a number of calls, an interface and a time."""
    handle = simulator.faults.add(faults.FailCode(407), "stations", times=2)
    other = simulator.faults.add(
        faults.FailCode(20200, buildCode="2"),
        "getDevList",
        when=lambda body: body["stationCodes"] == "NE=1",
    )
    assert await client.code("getDevList", stationCodes="NE=2") == 20007
    answer = await client.call("getDevList", stationCodes="NE=1")
    assert (answer["failCode"], answer["buildCode"]) == (20200, "2")
    codes = [await client.code("stations", pageNo=1) for _ in range(3)]
    assert codes == [407, 407, 0]
    handle.remove()
    other.remove()
    assert await client.code("getDevList", stationCodes="NE=1") == 20007
    simulator.faults.add(faults.FailCode(305))
    assert await client.code("stations", pageNo=1) == 305
    simulator.faults.clear()
    assert await client.code("stations", pageNo=1) == 0
    assert [call.fail_code for call in simulator.calls_to("stations")] == [
        407,
        407,
        0,
        305,
        0,
    ]


async def test_faults_of_rows(client: Client, simulator: Simulator) -> None:
    """Rows with invalid data."""
    sensor = device_of(simulator.home, DeviceType.POWER_SENSOR)
    true = simulator.device_items(sensor.id)

    async def play(fault: faults.Fault) -> dict[str, Any]:
        simulator.faults.clear()
        simulator.faults.add(fault)
        return await client.devices(sensor)

    assert (await play(faults.NullData()))["data"] is None
    assert (await play(faults.MissingRows({sensor.id})))["data"] == []
    assert (await play(faults.NullItemMap()))["data"][0]["dataItemMap"] is None
    assert (await play(faults.EmptyItemMap()))["data"][0]["dataItemMap"] == {}
    assert (await play(faults.StringFailCode()))["failCode"] == "0"
    strings = (await play(faults.StringsForNumbers()))["data"][0]["dataItemMap"]
    assert strings["active_power"] == str(true["active_power"])
    assert strings["reactive_power_a"] is None
    rewritten = await play(faults.Rewrite(lambda payload: payload | {"x": 1}))
    assert rewritten["x"] == 1
    simulator.faults.clear()
    simulator.faults.add(faults.HalfJson())
    _, half = await client.raw("stations", {"pageNo": 1})
    with pytest.raises(json.JSONDecodeError):
        json.loads(half)


async def test_faults_of_connections(client: Client, simulator: Simulator) -> None:
    """Late, dropped and missing responses."""
    simulator.faults.add(faults.Latency(0.05), times=1)
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert await client.code("stations", pageNo=1) == 0
    assert loop.time() - start >= 0.05
    simulator.faults.add(faults.DropConnection(), times=1)
    with pytest.raises(aiohttp.ClientError):
        await client.raw("stations")
    simulator.faults.add(faults.NeverAnswer(), times=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.raw("stations")


async def test_server_stops_during_a_pending_call(
    session: aiohttp.ClientSession, clock: SetClock
) -> None:
    """A pending call does not keep the server running."""
    simulator = Simulator(homes.family(), clock)
    simulator.faults.add(faults.NeverAnswer())
    async with simulator.serve():
        pending = asyncio.create_task(Client(session, simulator).raw("stations"))
        await asyncio.sleep(0.05)
    assert (await pending)[0] == 503


async def test_faults_use_up_the_quota(
    session: aiohttp.ClientSession, clock: SetClock
) -> None:
    """A call with a fault counts."""
    simulator = Simulator(homes.family(), clock)
    async with simulator.serve():
        client = Client(session, simulator)
        await client.log_in()
        simulator.faults.add(faults.EmptyBody(), times=1)
        code = only_plant(simulator.home).code
        await client.raw("getStationRealKpi", {"stationCodes": code})
        assert await client.code("getStationRealKpi", stationCodes=code) == 407


@pytest.mark.parametrize(("style", "value"), [("zeros", 0), ("nulls", None)])
async def test_disconnected_devices(
    client: Client, simulator: Simulator, style: Any, value: Any
) -> None:
    """All items are zero or null, and run_state is disconnected."""
    inverter = device_of(simulator.home, DeviceType.RESIDENTIAL_INVERTER)
    true = simulator.device_items(inverter.id)
    inverter.connected = False
    inverter.disconnected_style = style
    [row] = (await client.devices(inverter))["data"]
    items = row["dataItemMap"]
    assert items.pop("run_state") == 0
    assert items == dict.fromkeys(true.keys() - {"run_state"}, value)
    assert simulator.device_items(inverter.id) == true
    plant = only_plant(simulator.home)
    assert simulator.plant_items(plant.code)["real_health_state"] == 1
    inverter.disconnected_style = "missing"
    assert (await client.devices(inverter))["data"] == []
    inverter.connected = True
    assert len((await client.devices(inverter))["data"]) == 1


async def test_distorted_items(client: Client, simulator: Simulator) -> None:
    """A fault changes one item, live or also in history, but not the true value."""
    inverter = device_of(simulator.home, DeviceType.RESIDENTIAL_INVERTER)
    true = simulator.device_items(inverter.id)["total_cap"]
    moments: list[datetime] = []

    def lower(at: datetime, value: float) -> float:
        moments.append(at)
        return value - 1.0

    now = int(NOON.timestamp() * 1000)

    async def reported() -> tuple[float, float]:
        live = await client.devices(inverter)
        past = await client.call(
            "getDevHistoryKpi",
            devIds=str(inverter.id),
            devTypeId=38,
            startTime=now,
            endTime=now,
        )
        return tuple(
            answer["data"][0]["dataItemMap"]["total_cap"] for answer in (live, past)
        )

    handle = simulator.distort(inverter.id, "total_cap", lower)
    assert await reported() == (true - 1.0, true)
    handle.remove()
    handle = simulator.distort(inverter.id, "total_cap", lower, history=True)
    assert await reported() == (true - 1.0, true - 1.0)
    handle.remove()
    assert await reported() == (true, true)
    assert set(moments) == {NOON}
    assert simulator.device_items(inverter.id)["total_cap"] == true
    code = only_plant(simulator.home).code
    simulator.distort(code, "month_power", lambda at, value: 0.0)
    answer = await client.call("getStationRealKpi", stationCodes=code)
    assert answer["data"][0]["dataItemMap"]["month_power"] == 0.0


async def test_added_and_removed_plants(client: Client, simulator: Simulator) -> None:
    """Added plants are listed, and removed plants are unknown."""
    plant = only_plant(simulator.home)
    removed = plant.devices.pop()
    assert (await client.devices(removed))["failCode"] == 20008
    simulator.home.plants.extend(homes.apartment().plants)
    answer = await client.call("stations", pageNo=1)
    assert answer["data"]["total"] == 2


# Speed and command.


def test_a_hundred_inverters_are_quick() -> None:
    """A response for 100 inverters takes far less than a tenth of a second."""
    home = homes.farm(inverters=100)
    at(home, NOON).plant_items(only_plant(home).code)
    simulator = at(home, NOON + timedelta(minutes=5))
    loop = asyncio.new_event_loop()
    start = loop.time()
    for _, device in home.devices():
        simulator.device_items(device.id)
    duration = loop.time() - start
    loop.close()
    assert duration < 0.5


@pytest.mark.parametrize(("plants", "devices"), [(1, 4), (10, 100), (7, 31)])
def test_fleet_sizes(plants: int, devices: int) -> None:
    """A fleet has the requested size, unique IDs and codes, and balanced energy."""
    home = homes.fleet(plants, devices)
    assert len({plant.code for plant in home.plants}) == plants
    assert len({device.id for _, device in home.devices()}) == devices
    simulator = at(home, NOON)
    for plant in home.plants:
        flows = simulator.flows(plant.code)
        assert flows.pv + flows.grid_import + flows.discharge == pytest.approx(
            flows.load + flows.grid_export + flows.charge + flows.losses
        )
        power = sum(
            simulator.device_items(device.id).get("mppt_power", 0.0)
            for device in plant.devices
        )
        assert math.isclose(power * 1000, flows.pv, abs_tol=len(plant.devices))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_serves_and_stops(
    session: aiohttp.ClientSession, number: signal.Signals
) -> None:
    """The command prints its address, and stops cleanly."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.simulator",
        *("--home", "apartment", "--speed", "60", "--user", "me"),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    lines = [(await process.stdout.readline()).decode().split() for _ in range(3)]
    url = lines[0][1]
    assert lines[1:] == [["User:", "me"], ["Password:", "Simulated-1"]]
    async with session.post(
        f"{url}/thirdData/login", json={"userName": "me", "systemCode": "Simulated-1"}
    ) as response:
        assert (await response.json())["failCode"] == 0
    process.send_signal(number)
    assert await process.wait() == 0


@pytest.mark.parametrize(("mode", "status"), [("308", 308), ("gone", 410)])
async def test_the_command_moves(
    session: aiohttp.ClientSession, mode: str, status: int
) -> None:
    """The server of the command moves to another port, with other plant codes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.simulator", "--home", "apartment"),
        *("--move", mode, "--move-after", "0", "--new-codes"),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    lines = [(await process.stdout.readline()).decode().split() for _ in range(4)]
    url, new_url = lines[0][-1], lines[3][-1]
    login = {"userName": "demo_api", "systemCode": "Simulated-1"}
    async with session.post(
        f"{url}/thirdData/login", json=login, allow_redirects=False
    ) as response:
        assert response.status == status
        assert response.headers.get("Location") in (None, f"{new_url}/thirdData/login")
    async with session.post(f"{new_url}/thirdData/login", json=login) as response:
        token = {"XSRF-TOKEN": response.headers["XSRF-TOKEN"]}
    async with session.post(
        f"{new_url}/thirdData/stations", json={"pageNo": 1}, headers=token
    ) as response:
        [plant] = (await response.json())["data"]["list"]
        assert plant["plantCode"].startswith("NE=9")
    process.terminate()
    assert await process.wait() == 0


# Counter faults.

MIDNIGHT = datetime(2026, 6, 21, 22, 0, tzinfo=UTC)
MINUTES = timedelta(minutes=1)


def counter_of(home: Home, key: str) -> Counter:
    """Return the first counter of an item."""
    return next(counter for counter in counters_of(home, NOON) if counter.key == key)


def reported_and_true(
    counter: Counter, change: Change, moment: datetime
) -> tuple[Any, float]:
    """Return the reported value with a fault, and the true value, at a time."""
    simulator = at(Home([counter.plant]), moment)
    simulator.distort(counter.name, counter.key, change)
    items = simulator.reported_items(counter.name)
    assert items is not None
    return items[counter.key], counter.true(moment)


def test_counters_of_a_home() -> None:
    """All counters of plants and devices are found, with their true values."""
    home = homes.farm()
    counters = counters_of(home, NOON)
    kinds = {counter.key: counter.kind for counter in counters}
    assert kinds["total_power"] is kinds["mppt_4_cap"] is Kind.LIFETIME
    assert kinds["radiant_total"] is kinds["charge_cap"] is Kind.DAILY
    assert kinds["month_power"] is Kind.MONTHLY
    assert "mppt_5_cap" not in kinds
    simulator = at(home, NOON)
    for counter in counters:
        items = simulator.reported_items(counter.name)
        assert items is not None
        assert counter.true(NOON) == items[counter.key]


@pytest.mark.parametrize("wrong", [0.0, None, 65535.0])
def test_readings_that_are_wrong_once(wrong: float | None) -> None:
    """One reading is wrong, and those before and after it are correct."""
    counter = counter_of(homes.family(), "total_cap")
    assert reported_and_true(counter, reads(wrong, NOON), NOON)[0] == wrong
    reported, true = reported_and_true(counter, multiplied(10, NOON), NOON)
    assert reported == pytest.approx(10 * true)
    for fault in (reads(wrong, NOON), multiplied(10, NOON)):
        for moment in (NOON - MINUTES, NOON + 5 * MINUTES):
            reported, true = reported_and_true(counter, fault, moment)
            assert reported == true


@pytest.mark.parametrize("key", ["total_cap", "total_power", "month_power"])
def test_yesterday_is_missing_for_a_while(key: str) -> None:
    """The counter falls by the yield of the previous day, and returns."""
    counter = counter_of(homes.family(), key)
    yesterday = counter.true(MIDNIGHT - MINUTES) - counter.true(
        MIDNIGHT - timedelta(days=1)
    )
    assert yesterday > 30
    fault = without_yesterday(counter, MIDNIGHT + 10 * MINUTES, 20 * MINUTES)
    wrong, true = reported_and_true(counter, fault, MIDNIGHT + 15 * MINUTES)
    assert wrong == pytest.approx(true - yesterday, abs=0.011)
    for minute in (5, 30):
        reported, true = reported_and_true(counter, fault, MIDNIGHT + minute * MINUTES)
        assert reported == true


def test_yesterday_stays_after_midnight() -> None:
    """The previous day's value stays, or alternates."""
    counter = counter_of(homes.family(), "day_power")
    yesterday = counter.true(MIDNIGHT - MINUTES)
    assert yesterday > 30
    fault = still_yesterday(counter, MIDNIGHT, timedelta(hours=8), 0.5)
    for minute in (0, 60, 240):
        assert (
            reported_and_true(counter, fault, MIDNIGHT + minute * MINUTES)[0]
            == yesterday
        )
    reported, true = reported_and_true(counter, fault, MIDNIGHT + 7 * 60 * MINUTES)
    assert 0.5 < true == reported
    fault = flipping(counter, MIDNIGHT, timedelta(hours=1))
    values = [
        reported_and_true(counter, fault, MIDNIGHT + 5 * n * MINUTES)[0]
        for n in range(4)
    ]
    assert values == [0.0, yesterday, 0.0, yesterday]


def test_jitter_is_small_and_repeatable() -> None:
    """Values vary by at most 0.03, identically for the same seed."""
    counter = counter_of(homes.family(), "total_cap")
    fault = jittering(7, MIDNIGHT, timedelta(hours=2))
    moments = [MIDNIGHT + 5 * n * MINUTES for n in range(20)]
    pairs = [reported_and_true(counter, fault, moment) for moment in moments]
    assert all(abs(wrong - true) <= 0.0301 for wrong, true in pairs)
    assert len({round(wrong - true, 2) for wrong, true in pairs}) > 3
    again = jittering(7, MIDNIGHT, timedelta(hours=2))
    assert pairs == [reported_and_true(counter, again, moment) for moment in moments]


def test_offline_plants() -> None:
    """Counters are kept, days start at 0, and the true value returns at once."""
    home = homes.family()
    total, day = (counter_of(home, key) for key in ("total_power", "day_power"))
    three_days = timedelta(days=3)
    for counter, expected in ((total, total.true(NOON)), (day, 0.0)):
        fault = offline(counter, NOON, three_days)
        assert reported_and_true(counter, fault, NOON + timedelta(hours=2))[
            0
        ] == counter.true(NOON)
        assert (
            reported_and_true(counter, fault, NOON + timedelta(days=1))[0] == expected
        )
        reported, true = reported_and_true(counter, fault, NOON + three_days)
        assert reported == true > expected


def test_days_of_the_server() -> None:
    """A day starts at another zone's midnight, with the same energy."""
    counter = counter_of(homes.family(), "day_power")
    fault = with_days_of(counter, ZoneInfo("Asia/Shanghai"))
    reset = datetime(2026, 6, 21, 16, 0, tzinfo=UTC)
    assert reported_and_true(counter, fault, reset - MINUTES)[0] > 30
    assert reported_and_true(counter, fault, reset)[0] == 0.0
    later = reset + timedelta(hours=2)
    reported, true = reported_and_true(counter, fault, later)
    assert reported == pytest.approx(true - counter.true(reset), abs=0.011)


def test_replaced_inverter_starts_at_zero() -> None:
    """Lifetime and daily counters start at 0; the next day's is complete."""
    home = homes.family()
    total, day = (counter_of(home, key) for key in ("total_cap", "day_cap"))
    for counter in (total, day):
        fault = replaced(counter, NOON)
        reported, true = reported_and_true(counter, fault, NOON - MINUTES)
        assert reported == true
        assert reported_and_true(counter, fault, NOON)[0] == 0.0
        reported, true = reported_and_true(counter, fault, NOON + timedelta(hours=2))
        assert reported == pytest.approx(true - counter.true(NOON), abs=0.011)
    tomorrow = NOON + timedelta(days=1)
    reported, true = reported_and_true(total, replaced(total, NOON), tomorrow)
    assert reported == pytest.approx(true - total.true(NOON), abs=0.011)
    reported, true = reported_and_true(day, replaced(day, NOON), tomorrow)
    assert reported == true


def test_devices_lose_their_connection_at_times() -> None:
    """Outages start and end by the clock."""
    home = homes.family()
    inverter = device_of(home, DeviceType.RESIDENTIAL_INVERTER)
    clock = SetClock(NOON)
    simulator = Simulator(home, clock)
    true = simulator.reported_items(inverter.id)
    silences: dict[datetime, Any] = {
        NOON + 5 * MINUTES: "zeros",
        NOON + 10 * MINUTES: "missing",
    }
    simulator.interrupt(inverter.id, silences.get)
    assert simulator.reported_items(inverter.id) == true
    clock.tick(5 * MINUTES)
    silent = simulator.reported_items(inverter.id)
    assert silent is not None
    assert set(silent.values()) == {0}
    clock.tick(5 * MINUTES)
    assert simulator.reported_items(inverter.id) is None


def test_seed_determines_counter_faults() -> None:
    """All faults occur, no counter is always wrong, and a seed repeats them."""

    def reported(seed: int) -> list[list[Any]]:
        home = homes.family()
        clock = SetClock(NOON)
        simulator = Simulator(home, clock)
        counters = counters_of(home, NOON)
        Chaos(simulator, seed, Rates(0.9, 0.4, 0.3, 0.1, 0.5, 0))
        result = []
        for _ in range(96):
            clock.tick(30 * MINUTES)
            result.append(
                [
                    (simulator.reported_items(counter.name) or {}).get(counter.key)
                    for counter in counters
                ]
            )
        return result

    first = reported(1)
    assert first == reported(1)
    assert first != reported(2)
    assert any(0.0 in row for row in first)
    assert any(None in row for row in first)


def test_seed_determines_alarms() -> None:
    """Alarms are raised, cleared and raised again, and a seed repeats them."""

    def active(seed: int) -> list[set[tuple[str, int, datetime]]]:
        home = homes.family()
        [plant] = home.plants
        clock = SetClock(NOON)
        simulator = Simulator(home, clock)
        Chaos(simulator, seed, Rates(0, 0, 0, 0, 0, 0.5))
        result = []
        for _ in range(5 * 48):
            clock.tick(30 * MINUTES)
            result.append(
                {
                    (alarm.device.name, alarm.kind.alarm_id, alarm.raised)
                    for alarm in simulator.alarms.active(plant, clock.now())
                }
            )
        return result

    first = active(1)
    assert first == active(1)
    assert first != active(2)
    assert set() in first
    lives = set[tuple[str, int, datetime]]().union(*first)
    assert len(lives) > 5
    # The same alarm of a device, at another time.
    assert len({(device, alarm_id) for device, alarm_id, _ in lives}) < len(lives)


@pytest.mark.parametrize("moment", [NOON, NIGHT])
def test_meters_of_other_places(moment: datetime) -> None:
    """A meter at the inverters counts their yield, one at the load its consumption."""
    home = homes.family()
    plant = only_plant(home)
    grid = device_of(home, DeviceType.POWER_SENSOR)
    places: tuple[Any, ...] = ("inverters", "load")
    plant.devices += [
        replace(grid, id=number, measures=place) for number, place in enumerate(places)
    ]
    simulator = at(home, moment)
    yields, load = (simulator.device_items(number) for number in range(2))
    inverter = simulator.device_items(
        device_of(home, DeviceType.RESIDENTIAL_INVERTER).id
    )
    watts = pytest.approx(inverter["active_power"] * 1000, abs=1)
    assert yields["active_power"] == watts
    assert yields["active_cap"] == inverter["total_cap"]
    true = simulator.flows(plant.code)
    assert load["active_power"] == pytest.approx(-true.load, abs=1)
    assert load["active_cap"] == 0
    assert load["reverse_active_cap"] > 0
