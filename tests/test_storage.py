"""Tests of the codec between stored state and JSON."""

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import Enum
import json
import time
from typing import Any, ClassVar

from freezegun.api import FrozenDateTimeFactory
from hypothesis import HealthCheck, given, settings, strategies as st
import pytest

from custom_components.smartpvms.northbound import Moment, PastMoment, SessionState
from custom_components.smartpvms.runtime import StoredAccount
from custom_components.smartpvms.statistics import StoredHistory
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
    assert state == {
        "by_name": {"a": "[[1.23456789]]", "b": "[[1,2],[[3]]]"},
        "records": {"Inner": "low high", "Outer": "inner others count"},
    }
    again = decode(Records, state)
    assert again == RECORDS


def test_records_of_another_release() -> None:
    """Fields have their stored names, whatever their order is now."""
    state = {
        "by_name": {"a": "[9,[5,4,3]]"},
        "records": {"Inner": "high old low", "Outer": "count inner"},
    }
    assert decode(Records, state).by_name == {"a": Outer(Inner(3, 5), count=9)}


@pytest.mark.parametrize(
    "line",
    [None, 5, "", "[", "[[1]", "[1]", "[[1],[],1.5]", "[[1],[],1,2]", "[[null]]"],
)
def test_damaged_record(line: object) -> None:
    """A record with any damage is left out, since its fields belong together."""
    assert decode(Records, {"by_name": {"a": line, "b": "[[1]]"}}).by_name == {
        "b": Outer(Inner(1))
    }


@pytest.mark.parametrize("state", [None, [], [1], "text", 5])
def test_file_without_a_state(state: Any) -> None:
    """A file without a state is ignored."""
    assert decode_parts(Whole, state) == Whole()


@dataclass
class Times:
    """Monotonic moments."""

    past: PastMoment
    coming: Moment


def test_moments(freezer: FrozenDateTimeFactory) -> None:
    """Monotonic times are stored as epoch seconds; the clock is changed in between."""
    # Times are stored in milliseconds.
    freezer.move_to("2026-06-21T10:00:00Z")
    times = Times(time.monotonic() - 100, time.monotonic() + 50)
    state = encode(times)
    assert state == {"past": time.time() - 100, "coming": time.time() + 50}
    freezer.tick(20)
    assert decode(Times, state) == Times(time.monotonic() - 120, time.monotonic() + 30)
    freezer.tick(-220)
    assert decode(Times, state).past == time.monotonic()
    assert decode(Times, state, 200) == Times(
        time.monotonic() - 100, time.monotonic() + 50
    )


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
