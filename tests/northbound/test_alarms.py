"""Tests of alarms: requests, rows of any kind, partial answers, texts and quotas."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
import json
from typing import Any, Final

import aiohttp
from hypothesis import example, given, strategies as st
import orjson
import pytest
from yarl import URL

from custom_components.smartpvms.northbound import (
    ALARM_LANGUAGES,
    Alarm,
    AlarmLevel,
    Alarms,
    Device,
    MalformedResponse,
    MembersRefused,
    NorthboundClient,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    Session,
    alarm_language,
)
from custom_components.smartpvms.northbound.client import read_alarms
from custom_components.smartpvms.northbound.models import parse_alarm
from custom_components.smartpvms.northbound.session import Answer
from tests.simulator import SetClock, Simulator, alarms, faults, homes
from tests.simulator.plants import Home, Plant

from .test_models import JSON

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("socket_enabled")]

NOON: Final = datetime(2026, 6, 21, 10, tzinfo=UTC)
START: Final = NOON - timedelta(days=90)
HOUR: Final = timedelta(hours=1)

type Payload = dict[str, Any]


@pytest.fixture
def home() -> Home:
    """Return the home of the account."""
    return homes.family()


@pytest.fixture
def clock() -> SetClock:
    """Return the clock of the server."""
    return SetClock(NOON)


@pytest.fixture
async def simulator(home: Home, clock: SetClock) -> AsyncIterator[Simulator]:
    """Serve the home at noon."""
    simulator = Simulator(home, clock)
    async with simulator.serve():
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[NorthboundClient]:
    """Read the account of the simulator, whose quotas depend on its size."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as web:
        client = NorthboundClient(
            Session(web, URL(simulator.url), "demo_api", "Simulated-1")
        )
        client.set_account_size(1, {38: 1, 39: 1, 47: 1, 62: 1})
        yield client


@pytest.fixture
def plant(home: Home) -> Plant:
    """Return the only plant of the account."""
    [plant] = home.plants
    return plant


async def read(
    client: NorthboundClient, *codes: str, language: str = "en_US"
) -> Alarms:
    """Return the alarms of plants of the last 90 days."""
    return await client.alarms(codes, START, NOON, language)


def rewrite(rows: Callable[[list[Payload]], Any]) -> faults.Rewrite:
    """Return a fault that changes the rows of a response."""
    return faults.Rewrite(lambda answer: answer | {"data": rows(answer["data"])})


def answer(*rows: object) -> Answer:
    """Return an answer with rows."""
    return Answer([*rows], NOON)


def row(**fields: object) -> Payload:
    """Return a row of a plant."""
    return {
        "stationCode": "NE=1",
        "devName": "Inverter-1",
        "alarmId": 2064,
        "causeId": 5,
        "alarmName": "Device abnormal",
        "lev": 2,
        "raiseTime": 1776297439042,
        **fields,
    }


async def test_alarm(
    client: NorthboundClient, simulator: Simulator, plant: Plant
) -> None:
    """An alarm has the values of its row."""
    inverter = plant.devices[1]
    simulator.alarms.start(inverter, alarms.FAULT, NOON - HOUR)
    read_ = await read(client, plant.code)
    assert read_.server_time == NOON
    assert read_.complete == {plant.code}
    [alarm] = read_.rows[plant.code]
    texts = alarms.FAULT.texts["en_US"]
    assert alarm == Alarm(
        alarm_id=2064,
        cause_id=5,
        level=AlarmLevel.MAJOR,
        name=texts.name,
        device=inverter.name,
        serial_number=inverter.serial_number,
        raised=NOON - HOUR,
        cause=texts.cause,
        advice=texts.advice,
    )
    assert alarm.raised is not None
    assert alarm.raised.tzinfo is UTC


async def test_request(
    client: NorthboundClient, simulator: Simulator, plant: Plant
) -> None:
    """The request has the mandatory fields, with times in milliseconds."""
    await read(client, plant.code, "NE=7", language="de_DE")
    [call] = simulator.calls_to("getAlarmList")
    assert call.body == {
        "stationCodes": f"{plant.code},NE=7",
        "beginTime": int(START.timestamp()) * 1000,
        "endTime": int(NOON.timestamp()) * 1000,
        "language": "de_DE",
    }


async def test_language(
    client: NorthboundClient, simulator: Simulator, plant: Plant
) -> None:
    """Texts are in the language of the request, and the identity is the same."""
    simulator.alarms.start(plant.devices[1], alarms.GRID_LOSS, NOON - HOUR)
    [english] = (await read(client, plant.code)).rows[plant.code]
    [german] = (await read(client, plant.code, language="de_DE")).rows[plant.code]
    assert (english.name, german.name) == ("Grid loss", "Netzausfall")
    assert english.key == german.key


async def test_unsupported_language(
    client: NorthboundClient, simulator: Simulator, plant: Plant
) -> None:
    """A server that lacks a language rejects the request with a code."""
    simulator.alarms.languages = alarms.TEN_LANGUAGES
    with pytest.raises(RequestRejected) as caught:
        await read(client, plant.code, language="cs_CZ")
    assert caught.value.code == 20025


async def test_life(
    client: NorthboundClient, simulator: Simulator, plant: Plant, clock: SetClock
) -> None:
    """A cleared alarm is not listed, and one that is raised again is another one."""
    first = simulator.alarms.start(plant.devices[1])
    [before] = (await read(client, plant.code)).rows[plant.code]
    simulator.alarms.clear(first)
    clock.tick(timedelta(minutes=31))
    empty = await read(client, plant.code)
    assert empty.rows == {plant.code: []}
    assert empty.complete == {plant.code}
    simulator.alarms.start(plant.devices[1])
    [after] = (await client.alarms([plant.code], START, clock.now(), "en_US")).rows[
        plant.code
    ]
    assert after.key != before.key


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.NullData(), MalformedResponse),
        (rewrite(lambda rows: {"list": rows}), MalformedResponse),
        (faults.FailCode(401), PermissionDenied),
        (faults.FailCode(20007), MembersRefused),
        (faults.FailCode(20055), RequestRejected),
    ],
)
async def test_errors(
    client: NorthboundClient,
    simulator: Simulator,
    plant: Plant,
    fault: faults.Fault,
    error: type[Exception],
) -> None:
    """An answer without a list of alarms is an error, not an empty list."""
    simulator.faults.add(fault, "getAlarmList")
    with pytest.raises(error):
        await read(client, plant.code)


@pytest.mark.parametrize("home", [homes.fleet(plants=2, devices=8)])
async def test_refused_plant(
    client: NorthboundClient, simulator: Simulator, home: Home
) -> None:
    """The alarms of a plant with a failCode are not complete."""
    closed, open_ = home.plants
    simulator.alarms.start(open_.devices[0])
    simulator.unauthorize(closed.code)
    found = await read(client, closed.code, open_.code)
    assert found.complete == {open_.code}
    assert len(found.rows[open_.code]) == 1


async def test_quota(
    client: NorthboundClient, simulator: Simulator, plant: Plant, clock: SetClock
) -> None:
    """The calls that flow control allows are those of the server."""
    for _ in range(4):
        assert client.alarm_wait() == 0
        await read(client, plant.code)
    assert 1790 < client.alarm_wait() < 1802
    with pytest.raises(RateLimited):
        await read(client, plant.code)
    assert len(simulator.calls_to("getAlarmList")) == 4
    assert simulator.refusals == []


# Rows.


def only(*rows: object) -> Alarm:
    """Return the only alarm in rows of a plant."""
    [alarm] = read_alarms(answer(*rows), ["NE=1"]).rows["NE=1"]
    return alarm


def test_sentinels() -> None:
    """Placeholders of ids, and missing values, are kept as they are."""
    alarm = only(row(alarmId=999999999, causeId=-1, alarmType=0, esnCode="null"))
    assert (alarm.alarm_id, alarm.cause_id) == (999999999, -1)
    assert alarm.serial_number is None
    bare = only({"stationCode": "NE=1", "alarmId": "2064"})
    assert bare == Alarm(2064, None, AlarmLevel.OTHER, "Alarm", None, None, None)
    assert only(row(alarmId="A-7")).alarm_id == "A-7"
    assert only(row(raiseTime=0)).raised is None


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (1, AlarmLevel.CRITICAL),
        ("2", AlarmLevel.MAJOR),
        (3.0, AlarmLevel.MINOR),
        (4, AlarmLevel.WARNING),
        (5, AlarmLevel.OTHER),
        (0, AlarmLevel.OTHER),
        (-1, AlarmLevel.OTHER),
        (None, AlarmLevel.OTHER),
        (True, AlarmLevel.OTHER),
        ("high", AlarmLevel.OTHER),
    ],
)
def test_levels(level: object, expected: AlarmLevel) -> None:
    """Unknown levels are other ones."""
    assert only(row(lev=level)).level is expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<p>a</p><p>b</p>", "a\nb"),
        ("<ul><li>a</li><li>b</li></ul>", "a\nb"),
        ('<a href="https://x">See</a> &lt;b&gt; &amp; c', "See <b> & c"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("U<Umin or U>Umax, x <y.", "U<Umin or U>Umax, x <y."),
        ("a<b and c>d, a <i or i> b", "a<b and c>d, a <i or i> b"),
        ("Enter <time>.", "Enter <time>."),
        ("<FONT color=red size='2'>a</font ><hr/>b", "ab"),
        ('<p class="a>b">a</P>b<br clear=all />c</h2>d', "a\nb\nc\nd"),
        ("<!DOCTYPE html>a<!-- <b> --><!--\n-->", "a<!-- -->"),
        ("<script>x</script><!-- no -->y", "xy"),
        ("a\r\n\r\n\n  b\t c \u2028 d", "a\nb c\nd"),
        ("a\x00b\x1b[0m\ud800c", "a b [0m c"),
        ("[CNo] *x* _y_", "[CNo] *x* _y_"),
        ("--", None),
        ("<br>", None),
        ("", None),
        (None, None),
        ({"a": 1}, None),
        (7, "7"),
    ],
)
def test_texts(raw: object, expected: str | None) -> None:
    """Causes and advice are lines of plain text."""
    alarm = only(row(alarmCause=raw, repairSuggestion=raw))
    assert alarm.cause == alarm.advice == expected


@pytest.mark.parametrize("letter", ["x", "ü", "漢", "😀", '"', "\\", "<", "\n", "\x00"])
def test_long_texts(letter: str) -> None:
    """Texts of 10,000 characters have less than 4 kB together."""
    long = (letter + "y") * 5000
    alarm = only(
        row(
            devName=long,
            esnCode=long,
            alarmName=long,
            alarmCause=long,
            repairSuggestion=long,
            alarmId=long,
            causeId=long,
        )
    )
    texts = [alarm.device, alarm.name, alarm.cause, alarm.advice]
    assert all(each and each.endswith("…") for each in texts)
    together = [*texts, alarm.alarm_id, alarm.cause_id]
    assert len(orjson.dumps(together)) < 3600


def test_short_texts_are_whole() -> None:
    """A text of the size of real advice is not cut."""
    advice = "\n".join(f"{n}. Перевірте кабель. " * 3 for n in range(1, 14)).strip()
    alarm = only(row(repairSuggestion=advice))
    assert alarm.advice == "\n".join(line.strip() for line in advice.split("\n"))


def test_duplicates() -> None:
    """An alarm that is listed twice is one alarm."""
    assert only(row(), row()).alarm_id == 2064


@pytest.mark.parametrize(
    "odd",
    [None, 1, "row", [], {"devName": "x"}, row(stationCode=None)],
    ids=str,
)
def test_partial_answer(odd: object) -> None:
    """A row without a plant makes the answer incomplete for all plants."""
    codes = ["NE=1", "NE=2"]
    assert read_alarms(answer(row()), codes).complete == {*codes}
    partial = read_alarms(answer(row(), odd), codes)
    assert partial.complete == set()
    assert len(partial.rows["NE=1"]) == 1


def test_plant_without_code() -> None:
    """The rows of a request for one plant are those of the plant."""
    assert only(row(stationCode=None)).alarm_id == 2064


@pytest.mark.parametrize(
    "odd", [{"stationCode": "NE=1"}, row(failCode=20056)], ids=["empty", "refused"]
)
def test_partial_plant(odd: object) -> None:
    """An unreadable row of a plant makes this plant incomplete."""
    partial = read_alarms(answer(odd, row(stationCode="NE=2")), ["NE=1", "NE=2"])
    assert partial.complete == {"NE=2"}
    assert partial.rows["NE=1"] == []


def test_other_plant() -> None:
    """Plants that were not requested are left out.

    They may be a requested one without rows, under another code.
    """
    found = read_alarms(answer(row(), row(stationCode="NE=3")), ["NE=1", "NE=2"])
    assert found.rows.keys() == {"NE=1", "NE=2"}
    assert found.complete == {"NE=1"}


def test_number_of_alarms() -> None:
    """Thousands of alarms are read."""
    many = [row(causeId=n) for n in range(3000)]
    found = read_alarms(answer(*many), ["NE=1"])
    assert len(found.rows["NE=1"]) == 3000
    assert found.complete == {"NE=1"}


def device(name: str, serial_number: str | None) -> Device:
    """Return a device of the plant."""
    return Device(1, 38, name, "NE=1", serial_number, None, None)


def test_device() -> None:
    """An alarm is one of the device with its serial number, or with its name."""
    numbered, nameless = only(row(esnCode="HV1")), only(row(devName=None))
    unnumbered = only(row(esnCode=None, devName=" Inverter-1"))
    assert numbered.is_of(device("Other", "HV1"))
    assert not numbered.is_of(device("Inverter-1", "HV2"))
    assert numbered.is_of(device("Inverter-1", None))
    assert unnumbered.is_of(device("Inverter-1", "HV2"))
    assert not unnumbered.is_of(device("Inverter-2", "HV2"))
    assert not nameless.is_of(device("Inverter-1", None))
    long = "x" * 500
    assert only(row(devName=long)).is_of(device(long, None))


@given(JSON)
@example([{"stationCode": "NE=1", "alarmId": 1, "alarmName": ["x"], "lev": 1e400}])
@example([{"stationCode": "NE=1", "alarmName": "\ud800", "raiseTime": 1e300}])
@example([row(), None])
def test_any_answer(data: object) -> None:
    """Any data is a list of storable alarms, or malformed."""
    try:
        found = read_alarms(Answer(data, None), ["NE=1", "NE=2"])
    except MalformedResponse:
        assert not isinstance(data, list | None)
        return
    for each in [alarm for of_plant in found.rows.values() for alarm in of_plant]:
        check(each)


@given(st.dictionaries(st.sampled_from([*row(), "esnCode", "repairSuggestion"]), JSON))
def test_any_row(fields: Payload) -> None:
    """Any row has storable values of limited size, or none."""
    alarm = parse_alarm(row(**fields))
    if alarm is not None:
        check(alarm)


def check(alarm: Alarm) -> None:
    """Check that an alarm can be stored, shown and compared."""
    values = [alarm.alarm_id, alarm.cause_id, alarm.device, alarm.serial_number]
    texts = [alarm.name, alarm.cause, alarm.advice]
    assert len(orjson.dumps([*values, *texts, alarm.level])) < 3700
    assert json.loads(orjson.dumps(texts)) == texts
    assert alarm.name
    assert hash(alarm.key)


# Languages.


def test_languages() -> None:
    """The languages are those of the document."""
    assert {*ALARM_LANGUAGES.values()} == {*alarms.LANGUAGES}


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("en", "en_US"),
        ("en-GB", "en_US"),
        ("de", "de_DE"),
        ("de-CH", "de_DE"),
        ("es-419", "es_ES"),
        ("pt", "pt_BR"),
        ("pt-BR", "pt_BR"),
        ("zh-Hans", "zh_CN"),
        ("zh-Hant", "zh_TW"),
        ("sv", "en_US"),
        ("sk", "en_US"),
        ("", "en_US"),
    ],
)
def test_language_of_tag(tag: str, language: str) -> None:
    """A language of Home Assistant has one of the server, or English."""
    assert alarm_language(tag) == language
