"""Stored state, as it is restored after a restart."""

import json

from custom_components.smartpvms.storage import decode, encode


def restored[T](state: T, behind: float = 0.0) -> T:
    """Return a state after it went through JSON, with a clock that is `behind`."""
    return decode(type(state), json.loads(json.dumps(encode(state))), behind)
