"""Stored state, as it is restored after a restart."""

import json

from custom_components.smartpvms.storage import decode, encode


def restored[T](state: T) -> T:
    """Return a state after it went through JSON."""
    return decode(type(state), json.loads(json.dumps(encode(state))))
