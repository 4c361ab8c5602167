"""Tests of batches: their sizes, and members that the server rejects."""

from collections.abc import Collection
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from hypothesis import given, strategies as st
import pytest
from yarl import URL

from custom_components.smartpvms import polling as polling_module
from custom_components.smartpvms.models import Inventory, SourceId
from custom_components.smartpvms.northbound import (
    Device,
    NorthboundClient,
    Plant,
    Session,
)
from custom_components.smartpvms.polling import Batch, Polling

pytestmark = pytest.mark.fast

NOON = datetime(2026, 6, 21, 12, tzinfo=UTC)


def _inventory(types: dict[int, int], plants: int = 0) -> Inventory:
    """Return an inventory with a number of devices of each type."""
    devices = [
        Device(1000 * type_id + number, type_id, "", "NE=0", None, None, None)
        for type_id, count in types.items()
        for number in range(count)
    ]
    codes = [f"NE={number}" for number in range(plants)]
    return Inventory(
        {code: Plant(code, "", None, None) for code in codes},
        {device.id: device for device in devices},
        NOON,
        {},
    )


def _batches(types: dict[int, int], plants: int = 0) -> Polling:
    """Return the batches of a number of devices of each type."""
    websession: Any = SimpleNamespace(closed=False)
    client = NorthboundClient(Session(websession, URL("http://127.0.0.1"), "", ""))
    return Polling(client, _inventory(types, plants))


def _sizes(polling: Polling) -> list[tuple[int | None, int]]:
    return [(batch.type_id, len(batch.source_ids)) for batch in polling.batches]


def test_no_batch_is_too_large() -> None:
    """20014, 20016: batches have at most 100 plants or devices; loggers have none."""
    assert _sizes(_batches({1: 120, 38: 100, 39: 1, 62: 7}, plants=250)) == [
        *((None, 100), (None, 100), (None, 50)),
        *((1, 100), (1, 20)),
        (38, 100),
        (39, 1),
    ]


def test_groups_have_names() -> None:
    """Groups have names for the log."""
    plants, inverters = _batches({1: 1}, plants=1).batches
    assert (plants.group, inverters.group) == ("plants", "devices of type 1")


def test_only_device_is_kept() -> None:
    """The only device of a group is not left out, and other groups are read."""
    polling = _batches({38: 1, 39: 1})
    inverter, battery = polling.batches
    assert polling.refuse(inverter)
    assert polling.is_refused(38)
    assert not polling.is_refused(39)
    assert polling.batches == [inverter, battery]
    assert [*polling.due(polling.batches)] == [inverter, battery]
    polling.pause(38)
    assert [*polling.due(polling.batches)] == [battery]


def _read(polling: Polling, unknown: Collection[SourceId]) -> set[SourceId]:
    """Read all batches once, and return the devices that were read."""
    read: set[SourceId] = set()
    for batch in polling.batches:
        if not {*unknown}.isdisjoint(batch.source_ids):
            polling.refuse(batch)
        else:
            polling.accept(batch)
            read.update(batch.source_ids)
    return read


@given(
    st.integers(1, 350).flatmap(
        lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1)))
    )
)
def test_unknown_devices_are_found(drawn: tuple[int, set[int]]) -> None:
    """20006, 20008: unknown devices do not affect other devices."""
    size, numbers = drawn
    unknown = {1000 + number for number in numbers}
    known = {1000 + number for number in range(size)} - unknown
    polling = _batches({1: size})
    # Each round halves the suspected devices.
    for _ in range(9):
        _read(polling, unknown)
    assert _read(polling, unknown) == known
    if known:
        assert _sizes(polling) == _sizes(_batches({1: len(known)}))


@given(st.integers(2, 350))
def test_all_devices_unknown_for_a_while(size: int) -> None:
    """If the server rejects all devices for a while, all are read again later."""
    polling = _batches({1: size})
    everything = {1000 + number for number in range(size)}
    for _ in range(9):
        _read(polling, everything)
    seen: set[object] = set()
    for _ in range(9):
        seen |= _read(polling, set())
    assert seen
    assert all(isinstance(batch, Batch) for batch in polling.batches)


@given(
    st.integers(1, 350),
    st.lists(st.sets(st.integers(0, 349), max_size=4), min_size=1, max_size=12),
)
def test_devices_become_unknown(size: int, rounds: list[set[int]]) -> None:
    """Devices can be rejected in any round, and while halves are joined."""
    polling = _batches({1: size})
    unknown: set[int] = set()
    for numbers in rounds:
        unknown |= {1000 + number for number in numbers}
        _read(polling, unknown)
    known = {1000 + number for number in range(size)} - unknown
    for _ in range(20):
        _read(polling, unknown)
    if known:
        assert _read(polling, unknown) == known


class TestRefused:
    """Members that the server refuses, at the times of their attempts."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        """Return a clock that stands still."""
        clock = SimpleNamespace(now=1000.0)
        clock.monotonic = lambda: clock.now
        monkeypatch.setattr(polling_module, "time", clock)
        return clock

    def test_plant_is_read_once_an_hour(self, clock: SimpleNamespace) -> None:
        """A refused plant is read alone, once an hour, until it is accepted."""
        polling = _batches({}, plants=3)
        refused = {"NE=1"}
        for _ in range(4):
            _read(polling, refused)
        assert _read(polling, refused) == {"NE=0", "NE=2"}
        assert polling.refused_members(None) == ["NE=1"]
        clock.now += 3599
        assert all("NE=1" not in batch.source_ids for batch in polling.batches)
        for _ in range(2):
            clock.now += 3600
            assert [{*batch.source_ids} for batch in polling.batches] == [
                {"NE=0", "NE=2"},
                {"NE=1"},
            ]
            _read(polling, refused)
        assert _read(polling, refused) == {"NE=0", "NE=2"}
        clock.now += 3600
        _read(polling, set())
        assert _sizes(polling) == [(None, 3)]
        assert polling.refused_members(None) == []

    def test_attempts_are_spread(self, clock: SimpleNamespace) -> None:
        """Attempts of several refused plants leave most calls to the others."""
        polling = _batches({}, plants=20)
        refused = {f"NE={number}" for number in range(8)}
        for _ in range(9):
            _read(polling, refused)
        attempts = 0
        for _ in range(24):
            clock.now += 300
            due = [each for each in polling.batches if refused & {*each.source_ids}]
            assert len(due) <= 1
            attempts += len(due)
            _read(polling, refused)
        assert attempts == 5

    def test_devices_of_one_plant_are_read_together(
        self, clock: SimpleNamespace
    ) -> None:
        """Refused devices of one plant are read again with one call."""
        polling = _batches({1: 20})
        refused = {1003, 1004, 1017}
        for _ in range(9):
            _read(polling, refused)
        clock.now += 3600
        [_, batch] = polling.batches
        assert {*batch.source_ids} == refused

    def test_one_device_of_a_plant_is_allowed(self, clock: SimpleNamespace) -> None:
        """A device that is allowed again is read, while another stays refused."""
        polling = _batches({1: 20})
        for _ in range(9):
            _read(polling, {1003, 1004, 1017})
        read: set[SourceId] = set()
        for _ in range(48):
            clock.now += 300
            read = _read(polling, {1003, 1017})
        assert 1004 in read

    def test_same_inventory(self, clock: SimpleNamespace) -> None:
        """A new list with the same members keeps the refused ones."""
        polling = _batches({1: 3})
        for _ in range(4):
            _read(polling, {1001})
        polling.follow_inventory(_inventory({1: 3}))
        assert polling.refused_members(1) == [1001]
        polling.follow_inventory(_inventory({1: 4}))
        assert polling.refused_members(1) == []
        assert _sizes(polling) == [(1, 4)]
