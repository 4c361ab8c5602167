"""Tests of plants and devices that have other codes and ids than before."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest

from custom_components.smartpvms.models import (
    Inventory,
    Reading,
    contradicts,
    new_codes,
    new_ids,
)
from custom_components.smartpvms.northbound import Device, Plant
from custom_components.smartpvms.plant.grid_point import GridPointDetector
from custom_components.smartpvms.plant_flow import PlantFlow
from custom_components.smartpvms.runtime import StoredAccount
from custom_components.smartpvms.statistics.jobs import Job, Priority
from custom_components.smartpvms.statistics.store import StoredHistory
from custom_components.smartpvms.storage import decode, encode, renamed

pytestmark = pytest.mark.fast

NOW: Final = datetime(2026, 6, 21, tzinfo=UTC)
HOME: Final = Plant("NE=1", "Home", 10.0, None, "Street 1", 52.5, 13.4)
INVERTER: Final = Device(11, 38, "Inverter-1", "NE=1", "HV1", None, None)
BATTERY: Final = Device(12, 39, "Battery-1", "NE=1", None, None, None)
METER: Final = Device(13, 47, "Meter-1", "NE=1", None, None, None)
DEVICES: Final = (INVERTER, BATTERY, METER)


def inventory(*plants: Plant, devices: tuple[Device, ...] = ()) -> Inventory:
    """Return an inventory."""
    return Inventory(
        {plant.code: plant for plant in plants},
        {device.id: device for device in devices},
        NOW,
        {plant.code: plant.name for plant in plants},
    )


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        (HOME, HOME, True),
        (HOME, replace(HOME, name="Other"), False),
        (HOME, replace(HOME, address="Street 2"), False),
        (HOME, replace(HOME, latitude=52.6), False),
        # An old list of plants has no coordinates.
        (HOME, replace(HOME, latitude=None, longitude=None), True),
        (
            replace(HOME, address=None),
            replace(HOME, address=None),
            True,
        ),
        (
            replace(HOME, address=None),
            replace(HOME, address=None, latitude=None, longitude=None),
            False,
        ),
    ],
)
def test_code(before: Plant, after: Plant, *, is_same: bool) -> None:
    """A plant with another code is the same if its name and place are."""
    codes = new_codes(inventory(before), [replace(after, code="NE=2")])
    assert codes == ({"NE=1": "NE=2"} if is_same else {})


def test_ambiguous_plants() -> None:
    """Plants that look the same are not recognized."""
    twin = replace(HOME, code="NE=5")
    new = [replace(HOME, code="NE=2"), replace(HOME, code="NE=3")]
    assert new_codes(inventory(HOME), new) == {}
    assert new_codes(inventory(HOME, twin), new[:1]) == {}
    # The plant is still there, or the new one was there before.
    assert new_codes(inventory(HOME), [HOME, new[0]]) == {}
    assert new_codes(inventory(HOME, twin), [twin]) == {}


@pytest.mark.parametrize(
    ("devices", "is_other"),
    [
        ([replace(INVERTER, id=21, plant_code="NE=2")], False),
        ([replace(INVERTER, id=21, plant_code="NE=2", serial_number="HV2")], True),
        ([replace(BATTERY, id=22, plant_code="NE=2")], False),
        ([], False),
    ],
)
def test_serial_numbers(devices: list[Device], *, is_other: bool) -> None:
    """A plant whose serial numbers are all others is another plant."""
    known = inventory(HOME, devices=DEVICES)
    assert contradicts(known, devices, "NE=1", "NE=2") == is_other


def ids(*devices: Device, known: tuple[Device, ...] = DEVICES) -> dict[int, int]:
    """Return the new ids for a list of devices."""
    listed = {device.id: device for device in devices}
    return new_ids(inventory(HOME, devices=known), listed, {"NE=1": "NE=2"})


def moved(device: Device, **changes: object) -> Device:
    """Return a device in the plant with the new code."""
    return replace(device, plant_code="NE=2", **changes)  # type: ignore[arg-type]


def test_ids() -> None:
    """Devices are recognized by serial number, or else by name."""
    assert ids(*map(moved, DEVICES)) == {}
    new = [moved(device, id=device.id + 10) for device in DEVICES]
    assert ids(*new) == {11: 21, 12: 22, 13: 23}
    # Names may change if there is a serial number.
    assert ids(replace(new[0], name="East")) == {11: 21}
    # Another type is another device.
    assert ids(replace(new[0], type_id=1), replace(new[1], type_id=41)) == {}
    # A device of another plant is another device.
    assert ids(replace(new[1], plant_code="NE=3")) == {}


def test_other_serial_number() -> None:
    """A replaced device is a new one, despite its name."""
    assert ids(moved(INVERTER, id=21, serial_number="HV2")) == {}
    # A server that sends no serial numbers any more.
    assert ids(moved(INVERTER, id=21, serial_number=None)) == {11: 21}


def test_ambiguous_devices() -> None:
    """Devices with the same name are not recognized."""
    second = replace(BATTERY, id=14)
    new = moved(BATTERY, id=22)
    assert ids(new, known=(BATTERY, second)) == {}
    assert ids(new, replace(new, id=24)) == {}
    # The old id is still there.
    assert ids(moved(BATTERY), new) == {}


def test_exchanged_ids() -> None:
    """Two devices can exchange their ids, but none takes that of another one."""
    other = replace(INVERTER, id=15, serial_number="HV2", name="Inverter-2")
    known = (INVERTER, other)
    exchanged = moved(INVERTER, id=15), moved(other, id=11)
    assert ids(*exchanged, known=known) == {11: 15, 15: 11}
    assert ids(exchanged[0], known=known) == {}


def test_exchanged_ids_of_types() -> None:
    """A device without a serial number can have the old id of another type."""
    rotated = moved(INVERTER, id=12), moved(BATTERY, id=13), moved(METER, id=11)
    assert ids(*rotated) == {11: 12, 12: 13, 13: 11}
    # All keep their ids if one is not recognized.
    assert ids(*rotated[:2], replace(rotated[2], name="Other")) == {}
    # Two of the same type may have got the names of each other.
    second = replace(BATTERY, id=14, name="Battery-2")
    renamed = moved(BATTERY, id=14), moved(second, id=12)
    assert ids(*renamed, known=(BATTERY, second)) == {}


def test_serial_number_in_another_plant() -> None:
    """A device that was taken to another plant is a new one there."""
    assert ids(replace(INVERTER, id=21, plant_code="NE=3")) == {}
    # With the same id, it is the same device.
    assert ids(replace(INVERTER, plant_code="NE=3")) == {}


def test_missing_device() -> None:
    """A device that is still registered keeps its entities."""
    known = replace(inventory(HOME, devices=(BATTERY,)), missing={"22": NOW})
    assert new_ids(known, {22: replace(BATTERY, id=22)}, {}) == {}


def test_stored_state() -> None:
    """All codes and ids of a stored state change at once."""
    names = {"NE=1": "NE=2", "11": "12", "12": "11"}
    state = {
        "11_total_cap": [11, "11", 12.0, True, None],
        "12_total_cap": '[12,"NE=1","11_x_y","Home"]',
        "plants": {"NE=1": {"code": "NE=1", "name": "NE=12"}},
        "text": "[no JSON NE=1",
        "111": "NE=1_a_b",
    }
    assert renamed(state, names) == {
        "12_total_cap": [11, "12", 12.0, True, None],
        "11_total_cap": '[12,"NE=2","12_x_y","Home"]',
        "plants": {"NE=2": {"code": "NE=2", "name": "NE=12"}},
        "text": "[no JSON NE=1",
        "111": "NE=2_a_b",
    }
    assert renamed(state, {}) == state


def test_numbers_that_equal_an_id() -> None:
    """Only ids change, and not the numbers that equal them."""
    device = replace(INVERTER, id=38)
    state = StoredAccount(
        inventory=inventory(HOME, devices=(device,)),
        device_readings={38: Reading({"active_power": 38}, NOW, NOW, live=True)},
    )
    state.flows.plants["NE=1"] = PlantFlow(GridPointDetector(reported={38}))
    new = decode(StoredAccount, renamed(encode(state), {"38": "39"}))
    assert new.inventory == inventory(HOME, devices=(replace(device, id=39),))
    assert new.device_readings == {39: state.device_readings[38]}
    assert new.flows.plants["NE=1"].grid_point.reported == {39}
    job = Job(Priority.GAP, (38,), NOW, NOW, NOW, NOW, [38], refusals=38)
    history = StoredHistory(jobs=[job], types_with_history={38})
    new_history = decode(StoredHistory, renamed(encode(history), {"38": "39"}))
    assert new_history.types_with_history == {38}
    [new_job] = new_history.jobs
    assert (new_job.devices, new_job.filled_devices) == ((39,), [39])
    assert new_job.refusals == 38
