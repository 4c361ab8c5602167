"""The API account: its password, session, locks and permissions."""

from collections import deque
from datetime import datetime, timedelta
from random import Random
import string
from typing import Literal

from .clock import Clock

_TOKEN_LIFE = timedelta(minutes=30)
_LOCK_TIME = timedelta(minutes=30)
_ATTEMPTS = 5
_ATTEMPT_WINDOW = timedelta(minutes=10)

WRONG_CREDENTIALS = "user.login.user_or_value_invalid"
LOCKED = "user.login.user_locked"


class LoginRefused(Exception):
    """The login failed; the arguments are failCode and message."""

    def __init__(self, fail_code: int, message: str | None) -> None:
        """Store the failCode and the message."""
        super().__init__(fail_code, message)
        self.fail_code = fail_code
        self.message = message


class Account:
    """One account of the Northbound API, which has one session at a time."""

    def __init__(
        self,
        clock: Clock,
        user_name: str,
        system_code: str,
        session: Literal["sliding", "fixed"],
    ) -> None:
        """Create an account without a session."""
        self.user_name = user_name
        self.system_code = system_code
        self.disabled: int | None = None
        self.withdrawn: set[str] = set()
        self.unauthorized: set[str] = set()
        self._clock = clock
        self._sliding = session == "sliding"
        self._token: str | None = None
        self._valid_until: datetime | None = None
        self._locked_until: datetime | None = None
        self._wrong: deque[datetime] = deque()
        self._random = Random(user_name)

    def log_in(self, user_name: object, system_code: object) -> str:
        """Return a new token, and end the previous session."""
        now = self._clock.now()
        if self._locked_until and now < self._locked_until:
            raise LoginRefused(20400, LOCKED)
        if self.disabled is not None:
            raise LoginRefused(self.disabled, None)
        if user_name != self.user_name:
            raise LoginRefused(20400, WRONG_CREDENTIALS)
        if system_code != self.system_code:
            self._count_wrong(now)
            raise LoginRefused(20400, WRONG_CREDENTIALS)
        self._wrong.clear()
        return self.start_session()

    def _count_wrong(self, now: datetime) -> None:
        self._wrong.append(now)
        while self._wrong[0] <= now - _ATTEMPT_WINDOW:
            self._wrong.popleft()
        if len(self._wrong) >= _ATTEMPTS:
            self._wrong.clear()
            self.lock(_LOCK_TIME)

    def start_session(self) -> str:
        """Return a new token."""
        letters = string.ascii_lowercase + string.digits
        token = "x-" + "".join(self._random.choices(letters, k=126))
        self._token = token
        self._valid_until = self._clock.now() + _TOKEN_LIFE
        return token

    def recognizes(self, token: str | None) -> bool:
        """Return whether a token is valid, and renew it."""
        now = self._clock.now()
        if token is None or token != self._token:
            return False
        if self._valid_until is None or now >= self._valid_until:
            return False
        if self._sliding:
            self._valid_until = now + _TOKEN_LIFE
        return True

    def end_session(self) -> None:
        """End the session."""
        self._token = None

    def lock(self, duration: timedelta) -> None:
        """Lock the account and end its session."""
        self._locked_until = self._clock.now() + duration
        self.end_session()
