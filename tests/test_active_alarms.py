"""Tests of the active alarms of a plant, over any sequence of answers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.active_alarms import (
    MAX_ALARMS,
    AlarmEvent,
    PlantAlarms,
    alarm_attributes,
)
from custom_components.smartpvms.northbound import Alarm, AlarmLevel, Device
from custom_components.smartpvms.storage import decode, encode
from homeassistant.helpers.json import json_bytes
from homeassistant.util.json import json_loads

pytestmark = pytest.mark.fast

NOON: Final = datetime(2026, 6, 21, 10, tzinfo=UTC)
QUARTER: Final = timedelta(minutes=15)
ALARM: Final = Alarm(
    2064, 5, AlarmLevel.MAJOR, "Fault", "Inverter-1", "HV1", NOON, "Cause", "Advice"
)

RAISED: Final = AlarmEvent.RAISED
CLEARED: Final = AlarmEvent.CLEARED


def other(number: int) -> Alarm:
    """Return an alarm with another cause."""
    return replace(ALARM, cause_id=number)


def update(plant: PlantAlarms, *alarms: Alarm, is_complete: bool = True) -> list[str]:
    """Update the alarms with an answer, and return the announced events."""
    plant.update(alarms, NOON, is_complete=is_complete)
    return [event.value for event, _ in plant.announce(NOON)]


def restarted(plant: PlantAlarms) -> PlantAlarms:
    """Return the alarms after a restart."""
    stored: object = json_loads(json_bytes(encode(plant)))
    return decode(PlantAlarms, stored)


def test_life() -> None:
    """An alarm is raised once, and cleared after two complete answers without it."""
    plant = PlantAlarms()
    assert update(plant, ALARM) == ["raised"]
    assert update(plant, ALARM) == []
    assert update(plant) == []
    assert update(plant, ALARM) == []
    assert update(plant) == []
    assert update(plant, is_complete=False) == []
    assert [each.alarm for each in plant.active] == [ALARM]
    assert update(plant) == ["cleared"]
    assert plant.active == []
    assert update(plant) == []
    assert update(plant, ALARM) == ["raised"]


def test_partial_answer() -> None:
    """A partial answer raises, but does not clear."""
    plant = PlantAlarms()
    assert update(plant, ALARM, is_complete=False) == ["raised"]
    assert plant.received is None
    for _ in range(5):
        assert update(plant, is_complete=False) == []
    assert len(plant.active) == 1


def test_not_announced() -> None:
    """An alarm is announced as soon as somebody listens, and cleared only then."""
    plant = PlantAlarms()
    for alarms in ([ALARM, other(1)], [ALARM], [ALARM]):
        plant.update(alarms, NOON, is_complete=True)
    assert [*plant.announce(NOON)] == [(RAISED, ALARM)]
    assert [*plant.announce(NOON)] == []


def test_texts_follow() -> None:
    """The texts are those of the last answer."""
    plant = PlantAlarms()
    update(plant, ALARM)
    german = replace(ALARM, name="Fehler", cause="Ursache", advice=None)
    assert update(plant, german) == []
    assert plant.active[0].alarm == german
    update(plant)
    plant.update([], NOON, is_complete=True)
    assert [*plant.announce(NOON)] == [(CLEARED, german)]


def test_stored() -> None:
    """A restart keeps all but the cause and the advice."""
    plant = PlantAlarms()
    update(plant, ALARM)
    update(plant)
    again = restarted(plant)
    assert again.received == NOON
    assert again.active[0].alarm == replace(ALARM, cause=None, advice=None)
    assert (again.active[0].announced, again.active[0].absences) == (NOON, 1)
    assert update(again) == ["cleared"]
    assert len(json_bytes(encode(plant))) < 400


@pytest.mark.parametrize("ids", [("A-7", "x"), (None, None), (999999999, -1)])
def test_stored_ids(ids: tuple[int | str | None, int | str | None]) -> None:
    """Ids of any kind are the same after a restart."""
    alarm = Alarm(*ids, AlarmLevel.OTHER, "Alarm", None, None, None)
    plant = PlantAlarms()
    assert update(plant, alarm) == ["raised"]
    assert update(restarted(plant), alarm) == []


def test_counts() -> None:
    """Alarms are counted by level."""
    assert PlantAlarms().most_severe is None
    plant = PlantAlarms()
    update(plant, replace(other(1), level=AlarmLevel.OTHER))
    assert plant.most_severe == "other"
    update(plant, other(2), other(3), replace(other(4), level=AlarmLevel.WARNING))
    assert plant.counts == {
        "critical": 0,
        "major": 2,
        "minor": 0,
        "warning": 1,
        "other": 1,
    }
    assert plant.most_severe == "major"


def test_device() -> None:
    """Critical and major alarms are those of one device."""
    inverter = Device(1, 38, "Inverter-1", "NE=1", "HV1", None, None)
    battery = Device(2, 39, "Battery-1", "NE=1", None, None, None)
    plant = PlantAlarms()
    update(plant, replace(ALARM, level=AlarmLevel.MINOR))
    assert not plant.has_severe(inverter)
    update(plant, replace(ALARM, level=AlarmLevel.CRITICAL))
    assert plant.has_severe(inverter)
    assert not plant.has_severe(battery)


def test_too_many_alarms() -> None:
    """Of too many alarms the most severe are kept, and others after clearances."""
    many = [other(number) for number in range(MAX_ALARMS + 10)]
    last = many[-1] = replace(many[-1], level=AlarmLevel.CRITICAL)
    plant = PlantAlarms()
    assert update(plant, *many) == ["raised"] * MAX_ALARMS
    assert last in [each.alarm for each in plant.active]
    assert plant.received == NOON
    assert update(restarted(plant), *many) == []
    kept = {each.alarm.key for each in plant.active}
    rest = [alarm for alarm in many if alarm.key not in kept] + [last]
    assert update(plant, *rest) == []
    assert update(plant, *rest) == ["cleared"] * (MAX_ALARMS - 1) + ["raised"] * 10
    assert update(plant, *rest) == []


def test_size() -> None:
    """Stored alarms have less than 160 bytes each, without a name of their own."""
    plant = PlantAlarms()
    plant.update(
        (
            replace(other(number), name="Abnormal string", serial_number=f"HV{number}")
            for number in range(1000)
        ),
        NOON,
        is_complete=True,
    )
    [*plant.announce(NOON)]
    assert len(json_bytes(encode(plant))) < 160_000


def test_attributes() -> None:
    """Attributes are numbers and texts."""
    assert alarm_attributes(ALARM) == {
        "device": "Inverter-1",
        "name": "Fault",
        "level": "major",
        "cause": "Cause",
        "advice": "Advice",
        "alarm_id": 2064,
        "cause_id": 5,
        "raised_at": "2026-06-21T10:00:00+00:00",
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["complete", "partial", "failed"]),
            st.frozensets(st.integers(0, 4)),
            st.sampled_from(["", "announce", "restart"]),
        ),
        max_size=40,
    )
)
def test_any_answers(answers: list[tuple[str, frozenset[int], str]]) -> None:
    """Events of an alarm alternate, and follow the answers.

    Whatever is announced late, and however often Home Assistant restarts, an alarm is
    active from its first answer until two complete answers in a row lack it.
    """
    plant = PlantAlarms()
    announced: dict[int, list[AlarmEvent]] = {}
    absences: dict[int, int] = {}
    for kind, listed, then in answers:
        if kind != "failed":
            is_complete = kind == "complete"
            plant.update(map(other, listed), NOON, is_complete=is_complete)
            for number in {*absences} - listed if is_complete else ():
                absences[number] += 1
                if absences[number] == 2:
                    del absences[number]
            absences |= dict.fromkeys(listed, 0)
        assert {each.alarm.cause_id for each in plant.active} == {*absences}
        if then:
            for event, alarm in plant.announce(NOON):
                assert isinstance(alarm.cause_id, int)
                announced.setdefault(alarm.cause_id, []).append(event)
            for number, events in announced.items():
                expected = [(RAISED, CLEARED)[n % 2] for n in range(len(events))]
                assert events == expected
                if number in absences:
                    assert events[-1] is RAISED
            assert {*absences} <= {*announced}
        if then == "restart":
            plant = restarted(plant)
