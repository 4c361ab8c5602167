"""Tests of the import of history: complete hours with the true energies."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from sqlalchemy.exc import OperationalError

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.northbound import ReportPeriod
from custom_components.smartpvms.statistics import recorder as recording
from homeassistant.components.recorder import get_instance
from homeassistant.components.recorder.statistics import async_import_statistics
from tests.simulator import Energies, Simulator, faults, homes
from tests.simulator.cloud import Change
from tests.simulator.counter_faults import during
from tests.simulator.counters import COLLECTION, Counter, Kind, counters_of
from tests.simulator.plants import DeviceType, Home, Silence

from . import history, statistics
from .conftest import POLL
from .history import HOUR, Past, full_hour

recorder_config = statistics.recorder_config
simulator = history.simulator
past = history.past
start = history.start

QUARTER = timedelta(minutes=15, seconds=2)
INVERTER = 1000000035436842
BATTERY = 1000000035436843

type Imported = dict[str, dict[datetime, float]]


@pytest.fixture
def days() -> int:
    """Return the number of days to import when the account is added."""
    return 7


def renewed(counter: Counter, when: datetime) -> Change:
    """Restart the counter at 0 after the last collection before a moment."""
    base = counter.true(when - COLLECTION)
    return lambda at, value: value if at < when else round(value - base, 2)


async def request(past: Past, start: str, **more: Any) -> Any:
    """Request an import with the action."""
    return await past.hass.services.async_call(
        DOMAIN,
        "import_history",
        {"config_entry_id": past.run.account.entry.entry_id, "start": start, **more},
        blocking=True,
        return_response=True,
    )


async def test_first_set_up(past: Past) -> None:
    """History is imported, and continues into the live values."""
    begin = past.begin
    await past.until("2026-06-21 13:00:30", POLL)
    assert await past.problems(begin, past.run.at("2026-06-21 13:00")) == []
    assert past.run.simulator.refusals == []


@pytest.mark.parametrize("days", [30])
async def test_killed_between_passes(past: Past) -> None:
    """The calls of an import are stored before the next pass."""
    run = past.run
    await run.until("2026-06-21 11:20:00", QUARTER)
    for _ in range(4):
        await run.poll(timedelta(minutes=1, seconds=2))
    before = len(run.simulator.calls_to(ReportPeriod.HOUR))
    assert before > 3
    await run.account.kill()
    flow_control = run.account.entry.runtime_data.account.session.flow_control
    [usage] = flow_control.usages(ReportPeriod.HOUR)
    assert usage.calls >= before


@pytest.mark.parametrize("days", [0])
async def test_no_days_of_history(past: Past) -> None:
    """Without history to import, no call is made."""
    await past.until("2026-06-21 12:00:30", POLL)
    assert past.run.simulator.calls_to("getDevHistoryKpi") == []


class TestNewBattery:
    """A battery that has never charged and has no daily counters."""

    @pytest.fixture
    def simulator(self, simulator: Simulator) -> Simulator:
        """Return a simulator whose battery is idle and reports total energies of 0."""
        keys = ("total_charged_energy", "total_discharged_energy", "ch_discharge_power")
        for key in keys:
            simulator.distort(BATTERY, key, lambda at, value: 0.0, history=True)
        for key in ("charge_cap", "discharge_cap"):
            simulator.distort(BATTERY, key, lambda at, value: None, history=True)
        return simulator

    async def test_import_ends(
        self, past: Past, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The import of an energy without any counted part ends."""
        get_instance(past.hass).entity_filter = lambda entity_id: True
        await past.until("2026-06-21 12:30", POLL)
        [plant] = past.run.simulator.home.plants
        state = past.run.account.state(plant.code, "charged_energy")
        assert state is not None
        assert float(state.state) == 0.0
        await request(past, "2026-06-20 00:00:00")
        await past.until("2026-06-21 14:00", POLL)
        assert past.history_state == "idle"
        assert "Unexpected error" not in caplog.text


async def test_off_over_midnight(past: Past) -> None:
    """The hours in which Home Assistant was off are filled."""
    await past.until("2026-06-21 20:40", QUARTER)
    await past.off("2026-06-22 06:10")
    await past.until("2026-06-22 08:00:30", POLL)
    assert await past.problems(past.begin, past.run.at("2026-06-22 08:00")) == []


async def test_server_is_down(past: Past) -> None:
    """The hours in which the server was unreachable are filled."""
    await past.until("2026-06-21 13:20", QUARTER)
    past.run.simulator.faults.add(faults.DropConnection())
    now = full_hour(past.run.now)
    await past.run.until("2026-06-21 17:40", QUARTER)
    past.run.simulator.faults.clear()
    past.record_past(now + HOUR, past.run.at("2026-06-21 17:00"))
    await past.until("2026-06-21 20:00:30", POLL)
    assert await past.problems(past.begin, past.run.at("2026-06-21 20:00")) == []


@pytest.mark.parametrize("silence", ["zeros", "nulls", "missing"])
async def test_device_is_disconnected_for_a_day(past: Past, silence: Silence) -> None:
    """The energy of a disconnected device is assigned to the hours of that time."""
    await past.until("2026-06-21 13:20", QUARTER)
    back = past.run.at("2026-06-22 13:40")
    past.run.simulator.interrupt(INVERTER, lambda at: silence if at < back else None)
    [off] = [truth for truth in past.truths if truth.is_of(INVERTER, "total_cap")]
    others = [truth for truth in past.truths if truth.counter.name != INVERTER]
    past.truths = others
    now = full_hour(past.run.now)
    await past.until(back, QUARTER)
    off.record_past(now + HOUR, full_hour(back))
    past.truths = [*others, off]
    await past.until("2026-06-22 16:00:30", POLL)
    assert await past.problems(past.begin, past.run.at("2026-06-22 16:00")) == []


class TestNight:
    """An inverter without a battery."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a flat with one inverter."""
        return homes.apartment()

    async def test_nights_are_no_gaps(self, past: Past) -> None:
        """A sleeping inverter causes no gap, and no call."""
        await past.until("2026-06-21 22:30", QUARTER)
        past.run.simulator.calls.clear()
        sunrise = past.run.at("2026-06-22 06:30")
        [_, device] = past.run.simulator.home.devices()[0]
        past.run.simulator.interrupt(
            device.id, lambda at: "zeros" if at < sunrise else None
        )
        await past.until("2026-06-22 06:15", QUARTER)
        await past.until("2026-06-22 09:00", POLL)
        assert past.run.account.value(device.id, "run_state") == "on"
        assert past.run.simulator.calls_to("getDevHistoryKpi") == []


async def test_server_allows_no_calls_for_hours(past: Past) -> None:
    """A quota refusal of some hours only delays the import."""
    past.run.simulator.faults.add(faults.FailCode(407), "getDevHistoryKpi")
    await past.until("2026-06-21 16:00", QUARTER)
    assert past.history_state == "waiting"
    assert len(past.run.simulator.calls_to("getDevHistoryKpi")) <= 6
    past.run.simulator.faults.clear()
    await past.until("2026-06-22 08:00:30", QUARTER)
    assert await past.problems(past.begin, past.run.at("2026-06-22 08:00")) == []
    assert past.history_state == "idle"


@pytest.mark.parametrize(
    ("start", "days"),
    [("2026-10-27 10:20:30+01:00", 5), ("2026-04-01 10:20:30+02:00", 5)],
)
async def test_clocks_change(past: Past) -> None:
    """Days of 23 and 25 hours are correct."""
    end = full_hour(past.run.begin) + 4 * HOUR
    await past.until(end + timedelta(seconds=30), POLL)
    assert await past.problems(past.begin, end) == []


class TestHalfHourZone:
    """A plant whose midnight is in the middle of a Home Assistant hour."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a home in India."""
        return homes.apartment(time_zone="Asia/Kolkata", meter=True)

    @pytest.mark.parametrize("zone", ["Asia/Kolkata", "Europe/Berlin"])
    async def test_half_an_hour(self, past: Past, zone: str) -> None:
        """Hours follow Home Assistant's zone, days the plant's."""
        await past.hass.config.async_set_time_zone(zone)
        await past.until("2026-06-21 20:40", QUARTER)
        await past.off("2026-06-22 06:10")
        end = past.run.now + 3 * HOUR
        await past.until(end, POLL)
        assert await past.problems(past.begin, full_hour(end)) == []


async def test_short_term_statistics_are_purged(past: Past) -> None:
    """Sums that restart at 0 after a long absence are joined."""
    await past.until("2026-06-21 20:40", QUARTER)
    recorder = get_instance(past.hass)
    recorder.keep_days = 1
    await past.off("2026-06-24 06:10")
    await past.hass.services.async_call(
        "recorder", "purge", {"keep_days": 1}, blocking=True
    )
    await recorder.async_block_till_done()
    await past.until("2026-06-24 09:00:30", POLL)
    assert await past.problems(past.begin, past.run.at("2026-06-24 09:00")) == []


class TestReplaced:
    """Two devices that were replaced within the imported period."""

    @pytest.fixture
    def days(self) -> int:
        """Return more days than one call covers."""
        return 10

    @pytest.fixture
    async def simulator(self, simulator: Simulator) -> Simulator:
        """Serve a home whose inverter and meter were replaced a few days ago."""
        for counter in counters_of(simulator.home, simulator.clock.now()):
            days_ago = {"total_cap": 2, "active_cap": 5, "reverse_active_cap": 5}
            if counter.device is not None and counter.key in days_ago:
                when = full_hour(simulator.clock.now()) + 3 * COLLECTION
                change = renewed(counter, when - timedelta(days=days_ago[counter.key]))
                simulator.distort(counter.name, counter.key, change, history=True)
        return simulator

    async def test_counters_continue(self, past: Past) -> None:
        """No energy is lost or counted twice."""
        await past.until("2026-06-21 14:00:30", POLL)
        assert await past.problems(past.begin, past.run.at("2026-06-21 14:00")) == []


async def test_importing_again_changes_nothing(past: Past) -> None:
    """Existing hours are kept, and no call is made for them."""
    await past.until("2026-06-21 13:00:30", POLL)
    before = await past.rows()
    past.run.simulator.calls.clear()
    plan = await request(past, "2026-06-14 12:00:00")
    assert plan["devices"] == 3
    assert not plan["joined"]
    await past.until("2026-06-21 13:50", POLL)
    after = await past.rows()
    assert {key: after[key] for key in before} == before
    assert past.run.simulator.calls_to("getDevHistoryKpi") == []


@pytest.mark.parametrize("days", [2])
@pytest.mark.parametrize(
    "error", [OperationalError("", {}, Exception()), ValueError("Unexpected")]
)
async def test_continues_after_an_error(
    past: Past, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database error or an unexpected error does not stop the import for good."""
    honest = async_import_statistics
    errors = [error]

    def failing(*args: Any) -> None:
        if errors:
            raise errors.pop()
        honest(*args)

    monkeypatch.setattr(recording, "async_import_statistics", failing)
    await past.until("2026-06-21 11:30", POLL)
    assert errors == []
    assert past.history_state == "waiting"
    await past.until("2026-06-21 13:00:30", POLL)
    assert past.history_state == "idle"
    assert await past.problems(past.begin, past.run.at("2026-06-21 13:00")) == []


@pytest.mark.parametrize("days", [30])
async def test_thirty_days_and_a_night_off(past: Past) -> None:
    """A month of history, two live days, a night off, then live again."""
    await past.until("2026-06-23 20:40", QUARTER)
    await past.off("2026-06-24 06:50")
    await past.until("2026-06-24 09:00:30", POLL)
    assert await past.problems(past.begin, past.run.at("2026-06-24 09:00")) == []
    assert past.run.simulator.refusals == []
    before = await past.rows()
    plan = await request(past, "2026-05-23 12:00:00")
    assert plan["calls"] > 30
    await past.until("2026-06-24 09:40", POLL)
    after = await past.rows()
    assert {key: after[key] for key in before} == before


def without_rows(begin: datetime, end: datetime) -> faults.Rewrite:
    """Leave out the collections between two moments."""

    def rewrite(payload: faults.Payload) -> faults.Payload:
        rows = [
            row
            for row in payload["data"] or ()
            if not begin.timestamp() <= row["collectTime"] / 1000 < end.timestamp()
        ]
        return payload | {"data": rows}

    return faults.Rewrite(rewrite)


def lifetime(past: Past) -> None:
    """Compare the counters that lose no energy at the end of a day."""
    past.truths = [
        truth for truth in past.truths if truth.counter.kind is Kind.LIFETIME
    ]


async def states_are_true(
    past: Past, end: datetime, untold: tuple[datetime, datetime]
) -> None:
    """Check that the state of every hour is that of its end."""
    rows = await past.rows()
    compared = 0
    for truth in past.truths:
        counter = truth.counter
        state = past.run.account.state(counter.name, counter.key)
        if state is None or counter.device is None:
            continue
        hour = past.begin
        while hour < end:
            if not full_hour(untold[0]) <= hour < untold[1]:
                row: Any = rows[state.entity_id, hour.timestamp()]
                true = counter.true(hour + HOUR)
                if counter.kind is Kind.LIFETIME:
                    assert row["state"] == pytest.approx(true, abs=0.011), counter.key
                    compared += 1
            hour += HOUR
    assert compared > 100


# Start of the second window of a week, and end of the first.
BORDER: Final = datetime.fromisoformat("2026-06-18 12:00:00+02:00")


class TestBorder:
    """Outages and faults at the border of two windows."""

    @pytest.mark.parametrize(
        ("begins", "ends"),
        [(-1.0, 2.0), (-20.0, 10.0), (-30.0, 69.0), (1.5, 2.5), (-3.0, -0.5)],
    )
    async def test_outage(self, past: Past, begins: float, ends: float) -> None:
        """The energy across the outage is counted."""
        untold = BORDER + begins * HOUR, BORDER + ends * HOUR
        past.run.simulator.faults.add(without_rows(*untold), "getDevHistoryKpi")
        lifetime(past)
        await past.until("2026-06-21 13:00:30", POLL)
        end = past.run.at("2026-06-21 13:00")
        untold = untold[0] - COLLECTION, untold[1]
        assert await past.problems(past.begin, end, untold=untold) == []
        await states_are_true(past, full_hour(past.run.begin), untold)
        assert past.run.simulator.refusals == []

    @pytest.mark.parametrize(
        ("fault", "begins", "ends"),
        [
            ("zeros", 0.0, 1.1),
            ("zeros", -3.0, 5.2),
            ("all ones", 0.0, 1.1),
            ("yesterday", -3.0, 5.2),
            ("another device", 0.0, 1.1),
            ("another device", -3.0, 5.2),
        ],
    )
    async def test_fault(
        self, past: Past, fault: str, begins: float, ends: float
    ) -> None:
        """The first level of a window is not accepted at once."""
        untold = BORDER + begins * HOUR, BORDER + ends * HOUR
        for truth in past.truths:
            counter = truth.counter
            yesterday = counter.true(BORDER - timedelta(hours=26))
            changes: dict[str, Change] = {
                "zeros": lambda at, value: 0.0,
                "all ones": lambda at, value: 21474836.47,
                "yesterday": lambda at, value, kept=yesterday: kept,  # type: ignore[misc]
                "another device": lambda at, value: round(0.4 * value + 17.3, 2),
            }
            change = during(untold[0], untold[1] - untold[0], changes[fault])
            if counter.device is not None:
                past.run.simulator.distort(
                    counter.name, counter.key, change, history=True
                )
        await past.until("2026-06-21 13:00:30", POLL)
        end = past.run.at("2026-06-21 13:00")
        untold = untold[0] - COLLECTION, untold[1] + COLLECTION
        assert await past.problems(past.begin, end, untold=untold) == []
        await states_are_true(past, full_hour(past.run.begin), untold)

    @pytest.mark.parametrize("days", [0])
    @pytest.mark.parametrize(("begins", "ends"), [(0.0, 0.0), (-30.0, 20.0)])
    async def test_long_gap(self, past: Past, begins: float, ends: float) -> None:
        """A gap of several windows is counted once, with and without an outage."""
        await past.until("2026-06-21 13:20", POLL)
        border = past.run.at("2026-06-24 16:00")
        untold = border + begins * HOUR, border + ends * HOUR
        past.run.simulator.faults.add(without_rows(*untold), "getDevHistoryKpi")
        lifetime(past)
        past.begin = past.run.at("2026-06-21 11:00")
        await past.off("2026-06-27 14:10")
        await past.until("2026-06-27 23:00:30", POLL)
        end = past.run.at("2026-06-27 16:00")
        untold = untold[0] - COLLECTION, untold[1]
        problems = await past.problems(past.begin, end, untold=untold)
        # The first hour is incomplete, so only the totals are compared.
        assert [
            each
            for each in problems
            if not each.endswith("in all") and "1 hours before" not in each
        ] == []
        changes = await past.changes()
        for truth in past.truths:
            state = past.run.account.state(truth.counter.name, truth.counter.key)
            if state is not None and truth.counter.device is not None:
                counted = sum(
                    change
                    for hour, change in changes[state.entity_id].items()
                    if hour >= past.begin
                )
                true = truth.between(past.begin, full_hour(past.run.now))
                assert counted == pytest.approx(true, abs=0.02), truth.counter.key
        data = past.run.account.entry.runtime_data
        assert not data.history.queue.days_left


class TestKilled:
    """Home Assistant is killed at any point of the import."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a home that needs few calls."""
        return homes.apartment(meter=True)

    @pytest.fixture
    def days(self) -> int:
        """Return three windows of two calls each."""
        return 7

    @staticmethod
    def _kill(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> list[int]:
        """Stop everything from a certain call on, and count the calls."""
        calls: list[int] = []
        honest = getattr(recording, name)

        def counted(*args: Any) -> None:
            calls.append(len(calls))
            if len(calls) > count:
                raise asyncio.CancelledError
            honest(*args)

        monkeypatch.setattr(recording, name, counted)
        return calls

    @pytest.mark.parametrize("count", range(10))
    @pytest.mark.parametrize("name", ["async_import_statistics", "_adjust"])
    async def test_in_the_middle_of_a_window(
        self, past: Past, name: str, count: int
    ) -> None:
        """Hours that were not written are written next time, and none twice."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = self._kill(monkeypatch, name, count)
            await past.until("2026-06-21 11:40", POLL)
            assert len(calls) > count
        await past.run.account.kill(off=timedelta(minutes=5))
        past.record()
        await past.until("2026-06-21 14:00:30", POLL)
        assert await past.problems(past.begin, past.run.at("2026-06-21 14:00")) == []
        assert past.history_state == "idle"


class TestEndsOfDays:
    """Energy at the ends of days, for a storage with daily counters."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a home whose storage has only daily counters."""
        return homes.farm()

    @pytest.fixture
    def start(self) -> str:
        """Start at midnight, so that days begin with imported hours."""
        return "2026-06-21 00:20:30+02:00"

    @pytest.mark.parametrize("days", [0])
    async def test_night_off(self, past: Past) -> None:
        """The energy at the end of a day without Home Assistant is included.

        The counters of the storage miss it, so it is taken from the report a day later.
        """
        get_instance(past.hass).entity_filter = lambda entity_id: True
        await past.until("2026-06-21 22:10", QUARTER)
        await past.off("2026-06-22 02:10")
        await past.until("2026-06-23 06:00", QUARTER)
        [plant] = past.run.simulator.home.plants
        state = past.run.account.state(plant.code, "discharged_energy")
        assert state is not None
        hours = (await past.changes())[state.entity_id]
        begin = past.run.at("2026-06-21 23:00")
        true = past.run.simulator.energy(plant.code, begin, begin + HOUR)
        assert hours[begin.astimezone(UTC)] == pytest.approx(true.discharge, abs=0.2)

    @pytest.mark.parametrize("days", [0])
    async def test_gap_of_another_device(self, past: Past) -> None:
        """A gap of the meter does not fill the storage's energy again."""
        get_instance(past.hass).entity_filter = lambda entity_id: True
        begin, end = past.run.at("2026-06-21 22:30"), past.run.at("2026-06-22 01:10")
        [plant] = past.run.simulator.home.plants
        meter = next(
            each for each in plant.devices if each.type_id == DeviceType.GRID_METER
        )
        past.run.simulator.interrupt(
            meter.id, lambda at: "missing" if begin <= at < end else None
        )
        await past.until("2026-06-22 02:30", POLL)
        while past.history_state == "running":
            await past.poll(QUARTER)
        assert past.history_state == "idle"
        state = past.run.account.state(plant.code, "discharged_energy")
        assert state is not None
        changes = (await past.changes())[state.entity_id]
        for hour in ("2026-06-21 23:00", "2026-06-22 00:00"):
            begin = past.run.at(hour)
            true = past.run.simulator.energy(plant.code, begin, begin + HOUR)
            assert changes[begin.astimezone(UTC)] == pytest.approx(
                true.discharge, abs=0.2
            )


class TestOverlappingOutages:
    """Outages of two inverters, the second of which begins within the first."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a farm with two inverters."""
        return homes.farm(inverters=2)

    @pytest.mark.parametrize("days", [0])
    async def test_energy_of_the_plant(self, past: Past) -> None:
        """The plant's energy waits for the rows of the inverter that is still off."""
        get_instance(past.hass).entity_filter = lambda entity_id: True
        [plant] = past.run.simulator.home.plants
        first, second = [
            each.id
            for each in plant.devices
            if each.type_id == DeviceType.STRING_INVERTER
        ]
        for device_id, off, on in (
            (first, "2026-06-21 14:10", "2026-06-21 16:50"),
            (second, "2026-06-21 15:40", "2026-06-22 09:10"),
        ):
            past.run.simulator.interrupt(device_id, _missing(past, off, on))
        await past.until("2026-06-22 12:30", POLL)
        assert past.history_state == "idle"
        await _energy_is_true(past, "pv_energy", range(14, 33))

    @pytest.mark.parametrize("days", [0])
    @pytest.mark.parametrize(
        "type_id", [DeviceType.STRING_INVERTER, DeviceType.GRID_METER]
    )
    async def test_counter_that_is_pending(
        self, past: Past, type_id: DeviceType
    ) -> None:
        """A counter that reads 0 after an outage is imported when it is back.

        The outage of another device in the same gap is imported with it, or before it.
        """
        get_instance(past.hass).entity_filter = lambda entity_id: True
        [plant] = past.run.simulator.home.plants
        off, on = "2026-06-21 14:10", "2026-06-21 16:50"
        begin, end = past.run.at(on), past.run.at("2026-06-21 17:40")
        inverter = next(
            each.id
            for each in plant.devices
            if each.type_id == DeviceType.STRING_INVERTER
        )
        other = [each.id for each in plant.devices if each.type_id == type_id][-1]
        for device_id in (inverter, other):
            past.run.simulator.interrupt(device_id, _missing(past, off, on))
        past.run.simulator.distort(
            inverter, "total_cap", lambda at, value: 0.0 if begin <= at < end else value
        )
        await past.until("2026-06-21 19:30", POLL)
        assert past.history_state == "idle"
        for key in ("pv_energy", "home_energy"):
            await _energy_is_true(past, key, range(14, 19))

    @pytest.mark.parametrize("days", [0])
    async def test_part_that_is_not_recorded(self, past: Past) -> None:
        """The import waits for no statistic that the recorder excludes."""
        excluded = "sensor.inverter_2_ac_output_total"
        get_instance(past.hass).entity_filter = lambda entity_id: entity_id != excluded
        [plant] = past.run.simulator.home.plants
        inverter = next(
            each for each in plant.devices if each.type_id == DeviceType.STRING_INVERTER
        )
        off, on = "2026-06-21 14:10", "2026-06-21 16:50"
        past.run.simulator.interrupt(inverter.id, _missing(past, off, on))
        await past.until("2026-06-21 19:30", POLL)
        assert past.hass.states.get(excluded) is not None
        assert past.history_state == "idle"


async def _energy_is_true(past: Past, key: str, hours: Iterable[int]) -> None:
    """Compare an energy of the plant with the true one, by hour of the first day."""
    [plant] = past.run.simulator.home.plants
    state = past.run.account.state(plant.code, key)
    assert state is not None
    changes = (await past.changes())[state.entity_id]
    for hour in hours:
        begin = past.run.at("2026-06-21 00:00") + hour * HOUR
        energies = past.run.simulator.energy(plant.code, begin, begin + HOUR)
        true = energies.pv - energies.losses
        if key in ENERGIES:
            true = ENERGIES[key](energies)
        # The ends of an outage are up to a reading wrong.
        assert changes[begin.astimezone(UTC)] == pytest.approx(true, abs=8.0), hour


def _missing(past: Past, off: str, on: str) -> Callable[[datetime], Silence | None]:
    begin, end = past.run.at(off), past.run.at(on)
    return lambda at: "missing" if begin <= at < end else None


ENERGIES: Final[dict[str, Callable[[Energies], float]]] = {
    "home_energy": lambda true: true.load,
    "charged_energy": lambda true: true.charge,
    "discharged_energy": lambda true: true.discharge,
}
