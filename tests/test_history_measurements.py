"""Tests of imported measurements: what the recorder would have made of them."""

from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
import math
from typing import Any, Final, Literal

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.components.recorder.models import StatisticMeanType
from homeassistant.components.recorder.statistics import (
    StatisticsRow,
    get_metadata,
    statistics_during_period,
)
from homeassistant.components.sensor import ATTR_STATE_CLASS
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from tests.simulator import Simulator, faults, homes
from tests.simulator.counters import COLLECTION
from tests.simulator.items import device_items, history_items
from tests.simulator.moment import Moment
from tests.simulator.plants import Device, DeviceType, Home, Plant

from . import statistics
from .conftest import POLL, Account
from .history import HOUR, full_hour
from .statistics import Run

quiet = statistics.recorder_config

START: Final = "2026-06-21 10:20:30+02:00"
INVERTER: Final = 1000000035436842
BATTERY: Final = 1000000035436843
METER: Final = 1000000035436844

# What rounding may amount to.
TOLERANCE: Final = 0.002


@pytest.fixture
def recorder_config(quiet: dict[str, int]) -> dict[str, int]:
    """Commit after every state: a database in memory serves one at a time."""
    return {**quiet, "commit_interval": 0}


@pytest.fixture
async def simulator(
    home: Home, socket_enabled: None, freezer: FrozenDateTimeFactory
) -> AsyncIterator[Simulator]:
    """Serve a home; its clock is the frozen one of the test."""
    freezer.move_to(START)
    simulator = Simulator(home)
    async with simulator.serve():
        yield simulator


class Days:
    """The day before an account is added, and what the statistics say of it."""

    def __init__(self, hass: HomeAssistant, run: Run) -> None:
        """Go along with a run."""
        self.hass = hass
        self.run = run
        self.account = run.account
        self.end = full_hour(run.begin)
        self.begin = self.end - timedelta(days=1)

    @property
    def hours(self) -> Iterator[datetime]:
        """Return the hours that are imported."""
        return (self.begin + n * HOUR for n in range(24))

    def device(self, name: int) -> tuple[Plant, Device]:
        """Return a device by its id, or the first of a type."""
        return next(
            (plant, device)
            for plant, device in self.run.simulator.home.devices()
            if name in (device.id, device.type_id)
        )

    def true(self, name: int, key: str, hour: datetime) -> list[float]:
        """Return what was collected of an item in an hour, as far as it was known."""
        plant, device = self.device(name)
        values = []
        for n in range(12):
            moment = Moment(plant, int((hour + n * COLLECTION).timestamp()))
            items = device_items(moment, device) or {}
            values.append(history_items(moment, device, items).get(key))
        return [value for value in values if isinstance(value, int | float)]

    async def imported(self) -> None:
        """Let time pass until everything is imported."""
        entry_id = self.account.entry.entry_id
        await self.run.poll(POLL)
        await self.run.poll(POLL)
        while self.account.value(entry_id, "history") != "idle":
            await self.run.poll(POLL)
            assert self.run.now < self.run.begin + 3 * HOUR

    async def rows(
        self,
        entity_ids: Iterable[str],
        units: dict[str, str] | None,
        period: Literal["hour", "day"],
    ) -> dict[str, list[StatisticsRow]]:
        """Return the hours of the day before, or its days."""
        recorder = get_instance(self.hass)
        await recorder.async_block_till_done()
        return await recorder.async_add_executor_job(
            statistics_during_period,
            self.hass,
            datetime.fromtimestamp(0, UTC),
            self.end,
            set(entity_ids),
            period,
            units,
            {"mean", "min", "max", "state", "change"},
        )

    async def hours_of(
        self,
        name: int,
        key: str,
        units: dict[str, str] | None = None,
        period: Literal["hour", "day"] = "hour",
    ) -> dict[datetime, StatisticsRow]:
        """Return the hours of an item, or its days."""
        registered = self.account.registered(self.device(name)[1].id, key)
        assert registered
        rows = await self.rows([registered.entity_id], units, period)
        return {
            datetime.fromtimestamp(row["start"], UTC): row
            for row in rows.get(registered.entity_id, [])
        }

    async def unit(self, name: int, key: str) -> str | None:
        """Return the unit in which an item is recorded."""
        registered = self.account.registered(self.device(name)[1].id, key)
        assert registered
        metadata = await get_instance(self.hass).async_add_executor_job(
            lambda: get_metadata(self.hass, statistic_ids={registered.entity_id})
        )
        return metadata[registered.entity_id][1]["unit_of_measurement"]


@pytest.fixture
async def days(
    simulator: Simulator,
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    freezer: FrozenDateTimeFactory,
) -> Days:
    """Return a run with all that is recorded, and a day of history."""
    account.history = 1
    run = Run(hass, account, simulator, freezer)
    await run.start()
    get_instance(hass).entity_filter = None
    return Days(hass, run)


def problems(
    rows: dict[datetime, StatisticsRow], true: dict[datetime, list[float]]
) -> list[str]:
    """Return the hours whose mean, minimum or maximum is not true."""
    found = []
    for hour in sorted(rows.keys() | true.keys()):
        values, row = true.get(hour), rows.get(hour)
        if not values or row is None:
            found.append(f"{hour}: {values} {row}")
            continue
        for key, expected in (
            ("mean", math.fsum(values) / len(values)),
            ("min", min(values)),
            ("max", max(values)),
        ):
            shown: Any = row.get(key)
            if shown is None or abs(shown - expected) > TOLERANCE:
                found.append(f"{hour}: {key} {shown} {expected}")
    return found


async def test_all_measurements(days: Days) -> None:
    """Each hour has mean, minimum and maximum of what was collected in it."""
    await days.imported()
    names = {str(device.id) for _, device in days.run.simulator.home.devices()}
    compared = 0
    wrong = []
    for registered in er.async_entries_for_config_entry(
        er.async_get(days.hass), days.account.entry.entry_id
    ):
        device_id, _, key = registered.unique_id.partition("_")
        state = days.hass.states.get(registered.entity_id)
        if state is None or state.attributes.get(ATTR_STATE_CLASS) != "measurement":
            continue
        if device_id not in names:
            continue
        compared += 1
        rows = await days.hours_of(int(device_id), key)
        true = {hour: days.true(int(device_id), key, hour) for hour in days.hours}
        wrong += [f"{key} {problem}" for problem in problems(rows, true)]
    assert wrong == []
    assert compared >= 10


async def test_values_that_are_not_known(days: Days) -> None:
    """An hour is made of what is known of it, or is not there."""
    night = days.end - 8 * HOUR
    unknown = (night, night + HOUR / 2), (night + HOUR, night + 2 * HOUR)

    def change(at: datetime, value: Any) -> Any:
        return "N/A" if any(a <= at < b for a, b in unknown) else value

    days.run.simulator.distort(INVERTER, "temperature", change, history=True)
    await days.imported()
    true = {hour: days.true(INVERTER, "temperature", hour) for hour in days.hours}
    true[night] = true[night][6:]
    del true[night + HOUR]
    assert problems(await days.hours_of(INVERTER, "temperature"), true) == []


async def test_hours_that_the_server_has_not_collected(days: Days) -> None:
    """Where nothing was collected, a value holds for a quarter of an hour."""
    night = days.end - 8 * HOUR
    first = int(night.timestamp() * 1000)

    def lost(answer: dict[str, Any]) -> dict[str, Any]:
        rows = [
            row
            for row in answer["data"]
            if not 0 < row["collectTime"] - first < 7_200_000
        ]
        return answer | {"data": rows}

    days.run.simulator.faults.add(faults.Rewrite(lost), "getDevHistoryKpi")
    await days.imported()
    true = {hour: days.true(INVERTER, "temperature", hour) for hour in days.hours}
    true[night] = true[night][:1]
    del true[night + HOUR]
    assert problems(await days.hours_of(INVERTER, "temperature"), true) == []


def apart(mean: float | None, angles: Iterable[float]) -> float:
    """Return by how many degrees a mean differs from that of angles."""
    assert mean is not None
    each = [math.radians(angle) for angle in angles]
    east, north = math.fsum(map(math.sin, each)), math.fsum(map(math.cos, each))
    true = math.degrees(math.atan2(east, north))
    return abs((mean - true + 180) % 360 - 180)


class TestFarm:
    """A farm with an EMI, and a meter that is older than the document."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a farm with one inverter."""
        home = homes.farm(inverters=1)
        home.plants[0].firmware = "kw"
        return home

    async def test_wind_direction(self, days: Days) -> None:
        """The mean of a direction is one, and it has no minimum and no maximum."""

        def turn(at: datetime, value: float) -> float:
            # There are steady hours, and others.
            return (value + 120 if at.hour % 3 else value * 4) % 360

        emi = days.device(DeviceType.EMI)[1].id
        days.run.simulator.distort(emi, "wind_direction", turn, history=True)
        await days.imported()
        true = {
            hour: [
                turn(hour, value) for value in days.true(emi, "wind_direction", hour)
            ]
            for hour in days.hours
        }
        rows = await days.hours_of(emi, "wind_direction")
        assert list(rows) == list(days.hours)
        for hour, row in rows.items():
            assert apart(row["mean"], true[hour]) < 0.01
            assert (row["min"], row["max"]) == (None, None)
        # What Home Assistant makes of the hours of a day depends on their weights.
        midnight = days.begin + 14 * HOUR
        evening = [
            each for hour in days.hours if hour < midnight for each in true[hour]
        ]
        [day, _] = (await days.hours_of(emi, "wind_direction", period="day")).values()
        assert apart(day["mean"], evening) < 0.01

    async def test_grid_meter_in_kilowatts(self, days: Days) -> None:
        """Its past is in W as well, as its present has taught."""
        await days.imported()
        meter = days.device(DeviceType.GRID_METER)[1].id
        rows = await days.hours_of(meter, "active_power")
        assert await days.unit(meter, "active_power") == "W"
        true = {
            hour: [1000 * kw for kw in days.true(meter, "active_power", hour)]
            for hour in days.hours
        }
        assert max(max(values) for values in true.values()) > 1000
        assert problems(rows, true) == []


class TestTelecom:
    """A radio site, whose items have other names in the past."""

    @pytest.fixture
    def home(self) -> Home:
        """Return the radio site."""
        return homes.telecom()

    async def test_item_that_only_history_has(self, days: Days) -> None:
        """The load of the past is the active power of the present."""
        await days.imported()
        output = days.device(DeviceType.AC_OUTPUT)[1].id
        true = {
            hour: days.true(output, "total_load_active_power", hour)
            for hour in days.hours
        }
        assert problems(await days.hours_of(output, "active_power"), true) == []
        assert await days.hours_of(output, "ac_voltage") == {}

    async def test_types_without_history(self, days: Days) -> None:
        """Nobody asks for what the server does not tell."""
        await days.imported()
        asked = {
            call.body["devTypeId"]
            for call in days.run.simulator.calls_to("getDevHistoryKpi")
        }
        assert asked == {60001, 60003, 60010, 60014, 60043}


@pytest.mark.parametrize(
    ("recorded", "power", "energy"),
    [(["total_cap"], "W", "kWh"), (["active_power"], "kW", "MWh"), ([], "W", "MWh")],
)
async def test_units_that_the_user_has_chosen(
    days: Days, recorded: list[str], power: str, energy: str
) -> None:
    """Rows are in the unit that is recorded, which is the one that was shown first."""
    recorder = get_instance(days.hass)
    registry = er.async_get(days.hass)
    await days.account.poll(timedelta(seconds=1))
    chosen = {"active_power": "W", "total_cap": "MWh"}
    ids = {}
    for key, unit in chosen.items():
        registered = days.account.registered(INVERTER, key)
        assert registered
        ids[key] = registered.entity_id
        registry.async_update_entity_options(
            ids[key], "sensor", {"unit_of_measurement": unit}
        )
    await days.run.poll(POLL)
    # Whoever deletes a statistic lets it begin in the new unit.
    recorder.async_clear_statistics([ids[key] for key in chosen.keys() - recorded])
    await days.imported()
    assert await days.unit(INVERTER, "active_power") == power
    assert await days.unit(INVERTER, "total_cap") == energy
    rows = await days.hours_of(INVERTER, "active_power", {"power": "kW"})
    true = {hour: days.true(INVERTER, "active_power", hour) for hour in days.hours}
    assert problems(rows, true) == []
    counted = await days.hours_of(INVERTER, "total_cap", {"energy": "kWh"})
    counter = days.run.counter("total_cap")
    assert list(counted) == list(days.hours)
    for hour, row in counted.items():
        after, before = counter.true(hour + HOUR), counter.true(hour)
        assert row["change"] == pytest.approx(after - before, abs=0.01)
        assert row["state"] == pytest.approx(after, abs=0.01)


async def test_disabled_entities(days: Days) -> None:
    """What is disabled takes no part, even if it was recorded before."""
    await days.run.poll(POLL)
    await days.run.poll(POLL)
    await get_instance(days.hass).async_block_till_done()
    disabled = days.account.registered(INVERTER, "temperature")
    assert disabled
    er.async_get(days.hass).async_update_entity(
        disabled.entity_id, disabled_by=er.RegistryEntryDisabler.USER
    )
    await days.hass.async_block_till_done()
    assert await days.unit(INVERTER, "temperature") == "°C"
    await days.imported()
    assert await days.hours_of(INVERTER, "temperature") == {}
    assert await days.hours_of(INVERTER, "a_u") == {}
    assert len(await days.hours_of(INVERTER, "elec_freq")) == 24


async def test_metadata(days: Days) -> None:
    """The import does not change how a statistic is recorded."""
    for _ in range(2):
        await days.run.poll(POLL)
    recorder = get_instance(days.hass)
    await recorder.async_block_till_done()
    before = await recorder.async_add_executor_job(get_metadata, days.hass)
    await days.imported()
    after = await recorder.async_add_executor_job(get_metadata, days.hass)
    assert after == before
    kinds = {metadata["mean_type"] for _, metadata in after.values()}
    assert kinds == {StatisticMeanType.NONE, StatisticMeanType.ARITHMETIC}
