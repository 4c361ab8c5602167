"""Tests of batches: their sizes, and members that the server rejects."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from hypothesis import given, strategies as st
import pytest
from yarl import URL

from custom_components.smartpvms.models import Inventory
from custom_components.smartpvms.northbound import Device, NorthboundClient, Session
from custom_components.smartpvms.polling import Batch, Polling

pytestmark = pytest.mark.fast

NOON = datetime(2026, 6, 21, 12, tzinfo=UTC)


def _batches(types: dict[int, int], plants: int = 0) -> Polling:
    """Return the batches of a number of devices of each type."""
    devices = [
        Device(1000 * type_id + number, type_id, "", "NE=0", None, None, None)
        for type_id, count in types.items()
        for number in range(count)
    ]
    codes = [f"NE={number}" for number in range(plants)]
    websession: Any = SimpleNamespace(closed=False)
    client = NorthboundClient(Session(websession, URL("http://127.0.0.1"), "", ""))
    return Polling(
        client,
        Inventory(
            dict.fromkeys(codes),  # type: ignore[arg-type]
            {device.id: device for device in devices},
            NOON,
            {},
        ),
    )


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
    """The last device of a batch is not left out."""
    polling = _batches({38: 1, 39: 1})
    inverter, battery = polling.batches
    polling.reject(inverter)
    assert polling.has_rejected
    assert polling.batches == [inverter, battery]


def _read(polling: Polling, unknown: set[int]) -> set[object]:
    """Read all batches once, and return the devices that were read."""
    read: set[object] = set()
    for batch in polling.batches:
        if unknown.intersection(batch.source_ids):
            polling.reject(batch)
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
