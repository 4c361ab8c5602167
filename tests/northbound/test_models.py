"""Tests of the parsers: values of the API are valid or unknown."""

from datetime import UTC, datetime, timedelta, timezone
import math
from typing import Any

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.northbound.models import (
    Device,
    Plant,
    data_items,
    integer,
    moment,
    number,
    parse_device,
    parse_plant,
    parse_station,
    text,
)

pytestmark = pytest.mark.fast

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (512, 512.0),
        (512.0, 512.0),
        ("512", 512.0),
        ("10000", 10000.0),
        ("16770.000", 16770.0),
        (" -0.02 ", -0.02),
        ("1.5E3", 1500.0),
        (".5", 0.5),
        (0, 0.0),
        (None, None),
        ("N/A", None),
        ("--", None),
        ("", None),
        ("null", None),
        ("nan", None),
        ("inf", None),
        ("1_000", None),
        ("0x10", None),
        ("1e999", None),
        (10**400, None),
        (10**15 - 1, 1e15 - 1),
        (10**15, None),
        (1 - 10**15, 1 - 1e15),
        ("-1e15", None),
        ("\ud800", None),
        (math.nan, None),
        (math.inf, None),
        (True, None),
        ({"a": 1}, None),
        ([1], None),
    ],
)
def test_number(raw: object, value: float | None) -> None:
    """A raw data item is a number below 1e15 or unknown."""
    assert number(raw) == value


@pytest.mark.parametrize("raw", [-0.0, "-0.0", "-0"])
def test_zero_has_no_sign(raw: object) -> None:
    """A zero is never negative."""
    assert str(number(raw)) == "0.0"


@given(JSON)
def test_number_is_finite_or_unknown(raw: object) -> None:
    """Any JSON value results in a finite number or unknown."""
    value = number(raw)
    assert value is None or (type(value) is float and math.isfinite(value))


@given(st.floats(-1e15, 1e15, exclude_min=True, exclude_max=True))
def test_number_reads_its_own_text(value: float) -> None:
    """A number sent as a string is the same number."""
    assert number(repr(value)) == value


@given(st.integers(-(2**63), 2**63 - 1))
def test_ids_stay_exact(device_id: int) -> None:
    """64-bit IDs are exact, as numbers and as strings."""
    assert integer(device_id) == device_id
    assert integer(str(device_id)) == device_id


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (1000000035436846.0, 1000000035436846),
        (2.0**60, None),
        (1.5, None),
        (math.inf, None),
        (True, None),
        (None, None),
        ("1.0", None),
        ("12345678901234567890123", None),
        (2**64 - 1, 2**64 - 1),
        (2**64, None),
        ("-9999999999999999999", None),
    ],
)
def test_integer(raw: object, value: int | None) -> None:
    """A float is an ID only if it is exact."""
    assert integer(raw) == value


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("Inverter-1", "Inverter-1"),
        ("  Inverter 1 ", "Inverter 1"),
        (24, "24"),
        ("null", None),
        ("N/A", None),
        ("", None),
        (None, None),
        (True, None),
        ({}, None),
        ("Inverter \ud800", None),
        (2**64, None),
        (math.inf, None),
    ],
)
def test_text(raw: object, value: str | None) -> None:
    """Placeholders for missing texts are no text."""
    assert text(raw) == value


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (1.5, True),
        (2**64 - 1, True),
        (None, True),
        (True, True),
        ("N/A", True),
        ("5" * 64, True),
        ("5" * 65, False),
        ("\ud800", False),
    ],
)
def test_values_that_can_be_stored(raw: object, kept: bool) -> None:
    """A data item that cannot be stored is unknown."""
    assert data_items({"active_power": raw}) == {"active_power": raw if kept else None}


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("mppt_1_cap", True),
        ("k" * 64, True),
        ("k" * 65, False),
        ("", False),
        ("a b", False),
        ("a.b", False),
        ("NE=1", False),
        ("\u00e9", False),
        ("z\ud800", False),
        ("a\n", False),
    ],
)
def test_keys_of_data_items(key: str, kept: bool) -> None:
    """A data item with a key that is not a short word is left out."""
    assert data_items({key: 1.5}) == ({key: 1.5} if kept else {})


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (1501862400000, datetime(2017, 8, 4, 16, tzinfo=UTC)),
        ("1501862400000", datetime(2017, 8, 4, 16, tzinfo=UTC)),
        (0, None),
        (-1, None),
        ("N/A", None),
        (1e300, None),
        (10**18, None),
        (1501862400, None),
        (253402300799000, None),
        (10**15 - 1, None),
        (1 - 10**15, None),
        (946684799000, None),
        (946684800000, datetime(2000, 1, 1, tzinfo=UTC)),
        (4102444799000, datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (4102444800000, None),
    ],
)
def test_moment(raw: object, value: datetime | None) -> None:
    """Epoch milliseconds of this century are a time."""
    assert moment(raw) == value


def test_plant() -> None:
    """A row of `stations` becomes a plant, with the UTC offset of its zone."""
    plant = parse_plant(
        {
            "plantCode": "NE=12345678",
            "plantName": "Lindenweg 12",
            "capacity": "9.8",
            "longitude": "13.4",
            "latitude": 52.5,
            "gridConnectionDate": "2022-11-21T16:23:00+08:00",
        }
    )
    assert plant == Plant(
        code="NE=12345678",
        name="Lindenweg 12",
        capacity=9.8,
        grid_connection=datetime(
            2022, 11, 21, 16, 23, tzinfo=timezone(timedelta(hours=8))
        ),
        latitude=52.5,
        longitude=13.4,
    )
    assert "13.4" not in repr(plant)


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        (None, None),
        ("", ""),
        ("null", 8.2),
        (49.9, None),
        ("N/A", "8.2"),
        (0, 0),
        ("0.0", "0.0"),
        (91, 8.2),
        (49.9, "-180.5"),
        (True, False),
        ([], {}),
    ],
)
def test_plant_without_a_place(latitude: object, longitude: object) -> None:
    """Invalid coordinates are ignored."""
    plant = parse_plant(
        {"plantCode": "NE=1", "latitude": latitude, "longitude": longitude}
    )
    assert plant == Plant("NE=1", "Plant", None, None)


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "yesterday",
        "2022-11-21T16:23:00",
        1,
        "0000-00-00T00:00:00+08:00",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+08:00",
        "1899-12-30T00:00:00+01:00",
        "1970-01-01T00:00:00+08:00",
        "9999-12-31T23:59:59+00:00",
        "9999-12-31T23:59:59-05:00",
        "2022-11-21T16:23:00+00:53",
        "2022-11-21T16:23:00+01:00:30",
        "2022-11-21T16:23:00+23:45",
    ],
)
def test_plant_without_a_usable_date(date: object) -> None:
    """A connection date without an offset has no time zone."""
    plant = parse_plant({"plantCode": "NE=1", "gridConnectionDate": date})
    assert plant == Plant("NE=1", "Plant", None, None)


@pytest.mark.parametrize(("megawatts", "capacity"), [(0.005, 5.0), (None, None)])
def test_station_in_megawatts(megawatts: float | None, capacity: float | None) -> None:
    """`getStationList` returns MW where `stations` returns kWp."""
    plant = parse_station(
        {"stationCode": "NE=1", "stationName": "Home", "capacity": megawatts}
    )
    assert plant == Plant("NE=1", "Home", capacity, None)


def test_device() -> None:
    """A row of `getDevList` becomes a device."""
    row: dict[str, Any] = {
        "id": -214543629611879,
        "devTypeId": 38,
        "devName": "Inverter-1",
        "stationCode": "NE=1",
        "esnCode": "HV2250000001",
        "invType": "SUN2000-8KTL-M1",
        "softwareVersion": "V100R001C00SPC141",
    }
    assert parse_device(row) == Device(
        id=-214543629611879,
        type_id=38,
        name="Inverter-1",
        plant_code="NE=1",
        serial_number="HV2250000001",
        model="SUN2000-8KTL-M1",
        software_version="V100R001C00SPC141",
    )
    assert parse_device(row | {"model": "SUN2000-8K-MAP0"}).model == "SUN2000-8K-MAP0"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("type_id", "name"), [(38, "Residential inverter"), (4711, "Device")]
)
def test_device_without_a_name(type_id: int, name: str) -> None:
    """An ID is not used as a public name."""
    device = parse_device({"id": 7, "devTypeId": type_id, "stationCode": "NE=1"})
    assert device
    assert device.name == name


def test_device_without_details() -> None:
    """Batteries and meters have no serial number, model or version."""
    device = parse_device(
        {
            "id": "1000000035436846",
            "devTypeId": "39",
            "stationCode": "NE=1",
            "esnCode": "null",
            "invType": None,
        }
    )
    assert device == Device(
        1000000035436846, 39, "Residential battery", "NE=1", None, None, None
    )


@given(st.dictionaries(st.text(max_size=8), JSON))
def test_rows_without_an_id(row: dict[str, Any]) -> None:
    """Rows without an ID are left out."""
    assert parse_plant(row | {"plantCode": None}) is None
    assert parse_station(row | {"stationCode": ""}) is None
    assert parse_device(row | {"id": "N/A"}) is None
    assert parse_device(row | {"id": 1, "devTypeId": None}) is None
    assert parse_device(row | {"id": 1, "devTypeId": 1, "stationCode": []}) is None
