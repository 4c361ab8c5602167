"""Tests of the codec between stored state and JSON."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
import json
import time
from typing import Any, ClassVar, TypeAliasType, cast, get_args, get_type_hints

from freezegun.api import FrozenDateTimeFactory
from hypothesis import HealthCheck, given, settings, strategies as st
import pytest

from custom_components.smartpvms import runtime
from custom_components.smartpvms.northbound import (
    EpochTime,
    Moment,
    PastMoment,
    SessionState,
)
from custom_components.smartpvms.runtime import StoredAccount
from custom_components.smartpvms.statistics import StoredHistory, store
from custom_components.smartpvms.storage import decode, decode_parts, encode

from .storage import restored

pytestmark = pytest.mark.fast


class Color(Enum):
    """An enumeration."""

    RED = "red"


@dataclass
class Part:
    """A part without defaults."""

    size: float
    name: str | None


@dataclass
class Whole:
    """A state of every type that is stored."""

    count: int = 0
    is_set: bool = False
    color: Color = Color.RED
    at: datetime | None = None
    part: Part | None = None
    parts: list[Part] = field(default_factory=list)
    by_id: dict[int, Part] = field(default_factory=dict)
    source: str | int = 0
    pairs: list[tuple[int | None, float]] = field(default_factory=list)
    ids: tuple[int, ...] = ()
    names: set[str] = field(default_factory=set)
    anything: dict[str, Any] = field(default_factory=dict)
    derived: int = field(default=7, init=False)
    passing: int = field(default=0, metadata={"stored": False})


WHOLE = Whole(
    3,
    True,
    Color.RED,
    datetime(2026, 6, 21, tzinfo=UTC),
    Part(1.5, None),
    [Part(2, "two")],
    {-5: Part(0.1, "")},
    "NE=1",
    [(None, 1.0), (38, 2.5)],
    (1, 2),
    {"a"},
    {"items": [1, None, {"b": True}]},
)


def test_every_type() -> None:
    """State is the same after it was stored."""
    assert restored(WHOLE) == WHOLE


def test_defaults_are_left_out() -> None:
    """Fields are left out if they equal their default or are not stored."""
    assert encode(Whole(passing=3)) == {}
    assert encode(Whole(count=2)) == {"count": 2}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"parts": [{"size": 1, "name": "one"}, {"size": "2"}, 3, None]}, 1),
        ({"parts": [{"size": True, "name": "one"}]}, 0),
        ({"parts": [{"size": 1, "name": 1}, {"size": 2, "name": None}]}, 1),
    ],
)
def test_damaged_items(state: Any, expected: int) -> None:
    """Items that do not match their type are left out separately."""
    assert len(decode(Whole, state).parts) == expected
    by_id = {str(number): part for number, part in enumerate(state["parts"])}
    by_id["x"] = {"size": 1, "name": "one"}
    assert len(decode(Whole, {"by_id": by_id}).by_id) == expected


@pytest.mark.parametrize(
    "state",
    [
        {"count": 1.5},
        {"count": "1"},
        {"is_set": 1},
        {"color": "blue"},
        {"color": []},
        {"at": "yesterday"},
        {"at": "2026-06-21T12:00:00"},
        {"at": "9999-12-31T23:59:59+00:00"},
        {"at": 1e300},
        {"part": {"size": 1}},
        {"part": {"size": float("inf"), "name": None}},
        {"pairs": {}},
        {"source": 1.5},
    ],
)
def test_damaged_field(state: dict[str, Any]) -> None:
    """A field with a default is left out alone, if it does not fit its type."""
    assert decode(Whole, {**state, "ids": [3]}) == Whole(ids=(3,))


@pytest.mark.parametrize(
    "state", [None, [], "text", {"size": 1}, {"size": "1", "name": None}]
)
def test_damaged_state(state: Any) -> None:
    """An object without a field that it needs is an error."""
    with pytest.raises((AttributeError, TypeError, ValueError)):
        decode(Part, state)


@dataclass
class Inner:
    """A record within another one."""

    is_record: ClassVar = True

    low: float
    high: float = 0.0


@dataclass
class Outer:
    """Fields that belong together."""

    is_record: ClassVar = True

    inner: Inner
    others: list[Inner] = field(default_factory=list)
    count: int = 0


@dataclass
class Records:
    """Records by name."""

    by_name: dict[str, Outer] = field(default_factory=dict)


RECORDS = Records({"a": Outer(Inner(1.23456789)), "b": Outer(Inner(1, 2), [Inner(3)])})


def test_records() -> None:
    """A record is a line of text without names."""
    state = encode(RECORDS)
    assert state == {"by_name": {"a": "[[1.23456789]]", "b": "[[1,2],[[3]]]"}}
    again = decode(Records, state)
    assert again == RECORDS


def test_records_of_a_later_version() -> None:
    """Fields that a later version has added at the end are ignored."""
    state = {"by_name": {"a": "[[3,5,7],[],9,true]"}}
    assert decode(Records, state).by_name == {"a": Outer(Inner(3, 5), count=9)}


@pytest.mark.parametrize(
    "line",
    [None, 5, "", "[", "[[1]", "[1]", "[[1],[],1.5]", "[[null]]"],
)
def test_damaged_record(line: object) -> None:
    """A record with any damage is left out, since its fields belong together."""
    assert decode(Records, {"by_name": {"a": line, "b": "[[1]]"}}).by_name == {
        "b": Outer(Inner(1))
    }


LAYOUT = {
    "ActiveAlarm": "alarm announced absences",
    "Alarm": "alarm_id cause_id level name device serial_number raised",
    "AuditedDay": "code start differences is_decided",
    "Call": "at type_id",
    "CounterActivity": "last before power counted flowed is_dead",
    "CounterEvidence": (
        "last_reading last_row step power max_energy min_energy power_energy "
        "counter_energy highest_power highest_rate rises since_rise "
        "last_unpowered"
    ),
    "CounterFilter": (
        "period start read current evidence former former_until pending "
        "late_energy late_energy_due missed_midnight lowest verdict"
    ),
    "CounterRises": "estimates missing",
    "DayEndEstimate": "value start read reset_seen speed",
    "Decision": "verdict raw first last readings",
    "Device": "id type_id name plant_code serial_number model software_version dn",
    "Difference": "counted reported",
    "EnergySum": "value level is_ahead",
    "EnergyToday": "start read total value",
    "HomeEnergy": "energy_sum inverter_use home_use",
    "Integral": "value last",
    "Interface": (
        "calls stopped_until refused refusals used_up widening early_refusals "
        "once_a_minute"
    ),
    "Level": "raw at rose max_energy min_energy carry offset reset_seen",
    "MeterPowers": "type_id total phase",
    "Pending": (
        "raw at rose max_energy min_energy carry offset reset_seen since "
        "first_max_energy first_min_energy is_plausible expected readings rises"
    ),
    "Plant": "code name capacity grid_connection address latitude longitude",
    "PlantFlow": "grid_point signs activities rises home energy_sums today",
    "PowerUnit": "kilowatts doubts",
    "Reading": "items received server_time live last_connected",
    "Service": "answered answering failing missing last_missing host",
    "StoredCounter": "counter decisions",
    "StoredCounters": "counters",
}


def _records(kind: Any) -> Iterator[tuple[str, str]]:
    """Yield the names of all records in a type, and of their stored fields."""
    if isinstance(kind, TypeAliasType):
        yield from _records(kind.__value__)
    for part in get_args(kind):
        yield from _records(part)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        stored = [
            each.name
            for each in fields(kind)
            if each.init and each.metadata.get("stored", True)
        ]
        if getattr(kind, "is_record", False):
            yield cast("type", kind).__name__, " ".join(stored)
        for name in stored:
            yield from _records(hints[name])


def test_layout_of_records() -> None:
    """Records are stored by the order of their fields, which belongs to the version.

    A field with a default can be added at the end: earlier versions ignore it. For any
    other change, increase the `STORE_VERSION` of the file and migrate it: an earlier
    version sets a file of a later one aside.
    """
    assert (runtime.STORE_VERSION, store.STORE_VERSION) == (1, 1)
    assert dict([*_records(StoredAccount), *_records(StoredHistory)]) == LAYOUT


@pytest.mark.parametrize("state", [None, [], [1], "text", 5])
def test_file_without_a_state(state: Any) -> None:
    """A file without a state is ignored."""
    assert decode_parts(Whole, state) == Whole()


@pytest.mark.parametrize("saved", [None, "now", True, 1e300, 10**400, [0]])
def test_state_without_its_time(saved: object) -> None:
    """A state is ignored if the time to which its times are relative is damaged."""
    assert runtime.restored({"saved": saved, "next_pass": 5}) == StoredAccount()
    assert runtime.restored({"saved": 0, "next_pass": 5}) != StoredAccount()


@dataclass
class Times:
    """Times of every type."""

    past: PastMoment
    coming: Moment
    at: datetime
    last: EpochTime


def test_times(freezer: FrozenDateTimeFactory) -> None:
    """Times are seconds after that of the state; the clock is changed in between."""
    freezer.move_to("2026-06-21T10:00:00Z")
    saved, at = int(time.time()), datetime(2026, 6, 21, 9, tzinfo=UTC)
    last = at.timestamp()
    times = Times(time.monotonic() - 100, time.monotonic() + 50, at, last)
    state = encode(times, saved)
    assert state == {"past": -100, "coming": 50, "at": -3600, "last": -3600}
    assert decode(Times, state, saved) == times
    freezer.tick(20)
    assert decode(Times, state, saved) == Times(
        time.monotonic() - 120, time.monotonic() + 30, at, last
    )
    # The clock is behind the time of the state.
    freezer.tick(-220)
    assert decode(Times, state, saved) == Times(
        time.monotonic() - 100, time.monotonic() + 50, at, last
    )
    times.past, times.coming = time.monotonic() - 100.4, time.monotonic() + 50.4
    assert encode(times, saved) == {**state, "past": -300, "coming": -150}


@pytest.mark.parametrize("milliseconds", [1, 123, 227, 500, 999])
def test_milliseconds(milliseconds: int) -> None:
    """A time of the server is stored exactly."""
    at = datetime.fromtimestamp((1782036000000 + milliseconds) / 1000, UTC)
    times = Times(0.0, 0.0, at, 0.0)
    assert decode(Times, encode(times, 1782048160), 1782048160).at == at


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["plants", "devices", "interfaces", "calls", "jobs", "items", "1"]
            ),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("kind", [StoredAccount, StoredHistory])
@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.data())
def test_arbitrary_file(kind: type[Any], data: st.DataObject) -> None:
    """A file with arbitrary content can be restored and stored again."""
    names = [each.name for each in fields(kind)]
    state = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=6))
    assert json.dumps(encode(decode_parts(kind, state)))


def test_secrets_have_no_representation() -> None:
    """A token is stored, but not shown."""
    session = SessionState(token="secret")
    assert restored(session).token == "secret"
    assert "secret" not in repr(session)
