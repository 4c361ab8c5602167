"""Tests of responses: each results in a value or in one client error."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
import json
from typing import Any, cast

from hypothesis import given, strategies as st
import orjson
import pytest

from custom_components.smartpvms.northbound import (
    AccountLimited,
    AccountLocked,
    HttpUnauthorized,
    InterfaceMissing,
    InvalidCredentials,
    MalformedResponse,
    MembersRefused,
    NorthboundError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerBusy,
    SessionTaken,
    session,
)
from custom_components.smartpvms.northbound.client import read_kpis
from custom_components.smartpvms.northbound.models import integer, parse_device, text
from custom_components.smartpvms.northbound.session import (
    Answer,
    _parse,
    _parse_in_thread,
    read_answer,
)

from .test_models import JSON

pytestmark = pytest.mark.fast


def _read(body: object, status: int = 200, interface: str = "getDevList") -> Answer:
    return read_answer(interface, status, orjson.dumps(body))


def _failure(body: object, **how: Any) -> NorthboundError:
    with pytest.raises(NorthboundError) as caught:
        _read(body, **how)
    return caught.value


BUSINESS_ERRORS: dict[type[NorthboundError], set[int]] = {
    SessionTaken: {305, 306, 307},
    InvalidCredentials: {20001, 20002, 20003},
    AccountLocked: {20400, 20403},
    RateLimited: {407, 20618},
    AccountLimited: {403, 429},
    PermissionDenied: {401},
    MembersRefused: {
        *(20006, 20007, 20008, 20045, 20046, 20056),
        *(20621, 20622, 20623, 30029),
    },
    ServerBusy: {20004, 20200, 30008, 30033},
    RequestRejected: {
        *(1, 2, 413, 20005, 20009),
        *range(20010, 20029),
        *(20030, *range(20034, 20045), *range(20047, 20052), 20055, 20116),
        *range(20604, 20618),
        *(20619, 20620, *range(20624, 20627)),
        *range(21000, 21012),
        *range(22000, 22011),
        *range(23000, 23008),
        *range(24000, 24007),
        *range(25000, 25008),
        *range(26000, 26005),
        *range(30001, 30008),
        *range(30009, 30029),
        *range(30030, 30033),
        *range(30034, 30041),
    },
}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (code, error)
        for error, codes in BUSINESS_ERRORS.items()
        for code in sorted(codes)
    ],
)
@pytest.mark.parametrize("as_sent", [int, str, float])
def test_every_fail_code(
    code: int, error: type[NorthboundError], as_sent: type
) -> None:
    """Every documented code is one error, in any notation of the number."""
    failure = _failure(
        {
            "success": False,
            "data": None,
            "failCode": as_sent(code),
            "params": {"currentTime": 1503046597854},
            "message": None,
        }
    )
    assert type(failure) is error


def test_wrong_password_by_message() -> None:
    """20400 has four meanings, and only one requires a new password."""
    body = {"success": False, "failCode": 20400}
    wrong = _failure(body | {"message": "user.login.user_or_value_invalid"})
    locked = _failure(body | {"message": "user.login.user_locked"})
    assert type(wrong) is InvalidCredentials
    assert type(locked) is AccountLocked


@pytest.mark.parametrize(
    ("interface", "error"),
    [("login", AccountLimited), ("getDevRealKpi", RateLimited)],
)
def test_rate_limit_with_its_text_in_data(
    interface: str, error: type[RateLimited]
) -> None:
    """T#176, T#89: a 407 has a string instead of a list."""
    failure = _failure(
        {
            "success": False,
            "failCode": 407,
            "data": "ACCESS_FREQUENCY_IS_TOO_HIGH",
            "message": None,
            "params": {},
        },
        interface=interface,
    )
    assert type(failure) is error
    assert failure.retry_after == 60


def test_session_lost_without_data() -> None:
    """T#84: a 305 has no data and no params."""
    failure = _failure(
        {"failCode": 305, "immediately": True, "message": "USER_MUST_RELOGIN"}
    )
    assert type(failure) is SessionTaken


def test_permission_names_the_interface() -> None:
    """T#25, T#73: a 401 names the interface without permission."""
    failure = _failure(
        {
            "success": False,
            "failCode": 401,
            "message": "Invalid access to current interface!",
        },
        interface="stations",
    )
    assert isinstance(failure, PermissionDenied)
    assert failure.what == "stations"


def test_gateway_quota() -> None:
    """The gateway refuses with HTTP 403 and its own body."""
    failure = _failure(
        {
            "errorCode": "49401021002",
            "exceptionInfo": "Request is rejected by api quotaControl.",
        },
        status=403,
    )
    assert isinstance(failure, RateLimited)
    assert failure.retry_after == 60


@pytest.mark.parametrize("status", [200, 400])
def test_gateway_parameter_error(status: int) -> None:
    """The gateway's parameter error has an exceptionId and no failCode."""
    failure = _failure(
        {
            "exceptionId": "framwork.remote.Paramerror",
            "exceptionType": "ROA_EXFRAME_EXCEPTION",
            "descArgs": None,
            "reasonArgs": ["plantCode"],
            "detailArgs": ["plantCode may not be null"],
        },
        status=status,
    )
    assert isinstance(failure, RequestRejected)
    assert failure.code is None
    assert "plantCode" not in str(failure)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, HttpUnauthorized),
        (403, AccountLimited),
        (404, InterfaceMissing),
        (410, InterfaceMissing),
        (302, MalformedResponse),
        (429, AccountLimited),
        (500, ServerBusy),
        (503, ServerBusy),
    ],
)
@pytest.mark.parametrize("content", [b"", b"<html></html>", b"{}", b"[]"])
def test_http_status(status: int, error: type[NorthboundError], content: bytes) -> None:
    """Without a failCode, the HTTP status determines the error."""
    with pytest.raises(NorthboundError) as caught:
        read_answer("stations", status, content)
    assert type(caught.value) is error


def test_fail_code_with_http_error() -> None:
    """A failCode determines the error, even with an HTTP error."""
    assert type(_failure({"failCode": 20200}, status=400)) is ServerBusy


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", ServerBusy),
        (b" \r\n", ServerBusy),
        (b"<!DOCTYPE html><html><body>Login</body></html>", MalformedResponse),
        (b'{"success":true,"data":[{"stationCode"', MalformedResponse),
        (b"\xff\xfe", MalformedResponse),
        (b"null", MalformedResponse),
        (b"[]", MalformedResponse),
        (b"{}", MalformedResponse),
        (b'{"data":[]}', MalformedResponse),
        (b'{"success":false,"failCode":0}', MalformedResponse),
        (b"[" * 5000, MalformedResponse),
    ],
)
def test_invalid_bodies(content: bytes, error: type[NorthboundError]) -> None:
    """An empty body is valid; a page or half a document is not."""
    with pytest.raises(NorthboundError) as caught:
        read_answer("stations", 200, content)
    assert type(caught.value) is error


@pytest.mark.parametrize("size", [0, 1_000_000])
@pytest.mark.parametrize(
    "nested",
    [b"[" * 30 + b"]" * 30, b'{"a":' * 30 + b"1" + b"}" * 30],
    ids=["lists", "objects"],
)
def test_nesting(nested: bytes, size: int) -> None:
    """An answer has at most 32 levels of lists and objects, for both parsers."""
    parse = _parse_in_thread if size else _parse
    body = b'{"success":true,"text":"%b","data":[%b]}'
    read_answer("stations", 200, body % (b"x" * size, nested), parse)
    with pytest.raises(MalformedResponse):
        read_answer("stations", 200, body % (b"x" * size, b"[%b]" % nested), parse)


def test_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large answer with too many values is an error, before it needs the memory."""
    body = b'{"success":true,"data":[%b]}' % b",".join([b"[]"] * 100)
    assert read_answer("stations", 200, body, _parse_in_thread).data == [[]] * 100
    monkeypatch.setattr(session, "_MAX_VALUES", 200)
    with pytest.raises(MalformedResponse):
        read_answer("stations", 200, body, _parse_in_thread)


@pytest.mark.parametrize("parse", [_parse, _parse_in_thread])
def test_half_a_character(parse: Callable[[bytes], object]) -> None:
    """A text with a lone surrogate is unknown, and other values are not affected."""
    body = b'{"success":true,"data":[{"id":5,"devTypeId":1,"stationCode":"NE=1",'
    body += b'"devName":"Inverter \\ud800","esnCode":"HV1"}]}'
    [row] = cast("list[Any]", read_answer("getDevList", 200, body, parse).data)
    device = parse_device(row)
    assert device is not None
    assert (device.name, device.serial_number) == ("String inverter", "HV1")


@pytest.mark.parametrize("parse", [_parse, _parse_in_thread])
@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        (b"1.5", 1.5),
        (b"-0.25e1", -2.5),
        (b"7", 7),
        (b"-9223372036854775808", -(2**63)),
        (b"18446744073709551615", 2**64 - 1),
    ],
)
def test_numbers(raw: bytes, stored: float, parse: Callable[[bytes], object]) -> None:
    """Both parsers return the same numbers."""
    body = b'{"success":true,"data":[%b]}' % raw
    assert read_answer("stations", 200, body, parse).data == [stored]


@pytest.mark.parametrize(
    "raw",
    [b"1e999", b"-1e999", b"9" * 20, b"9" * 5000],
    ids=["float", "negative", "integer", "digits"],
)
def test_numbers_beyond_64_bits(raw: bytes) -> None:
    """A number that cannot be stored is unknown, and other values are not affected."""
    body = b'{"success":true,"data":[%b,"\\ud800",2]}' % raw
    assert read_answer("stations", 200, body).data == [None, "\ud800", 2]


def test_success() -> None:
    """A success has data and the server's clock; its message is no error."""
    answer = _read(
        {
            "success": True,
            "data": [1],
            "failCode": 0,
            "params": {"currentTime": 1501862400000},
            "message": "get plant list success",
        }
    )
    assert answer == Answer([1], datetime(2017, 8, 4, 16, tzinfo=UTC))


@pytest.mark.parametrize("params", [None, "", [], {}, {"currentTime": "soon"}])
def test_success_without_a_clock(params: object) -> None:
    """`stations` has no params, and other responses may lack the time."""
    answer = _read({"success": True, "data": None, "failCode": 0, "params": params})
    assert answer == Answer(None, None)


@given(
    JSON
    | st.fixed_dictionaries(
        {},
        optional={
            "success": JSON,
            "failCode": JSON,
            "data": JSON,
            "params": JSON,
            "message": JSON,
            "exceptionId": JSON,
        },
    ),
    st.sampled_from([200, 302, 400, 401, 403, 404, 429, 500, 502]),
)
def test_arbitrary_json(body: object, status: int) -> None:
    """Arbitrary JSON results in a response or in a client error."""
    with suppress(NorthboundError):
        answer = read_answer("stations", status, json.dumps(body).encode())
        assert isinstance(answer, Answer)


ROW = st.fixed_dictionaries(
    {},
    optional={
        "stationCode": JSON,
        "devId": JSON,
        "dataItemMap": JSON,
        "id": JSON,
        "devTypeId": JSON,
    },
)


@given(JSON | st.lists(JSON | ROW))
def test_arbitrary_rows(data: object) -> None:
    """Arbitrary data result in rows with IDs and items, or in a client error."""
    answer = Answer(data, None)
    with suppress(MalformedResponse):
        plants = read_kpis(answer, "stationCode", text)
        assert all(isinstance(code, str) for code in plants.rows)
        devices = read_kpis(answer, "devId", integer)
        assert all(type(device_id) is int for device_id in devices.rows)
        assert all(isinstance(items, dict) for items in devices.rows.values())


@given(st.binary(), st.sampled_from([200, 500]))
def test_arbitrary_bytes(content: bytes, status: int) -> None:
    """Arbitrary bytes result in a response or in a client error."""
    with suppress(NorthboundError):
        assert isinstance(read_answer("login", status, content), Answer)
