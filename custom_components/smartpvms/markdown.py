"""Texts of the server and the user in Home Assistant's Markdown."""

import re
from typing import Final

# Links, images, HTML, emphasis, code and addresses. The title of an issue is no Markdown,
# so that a character is escaped only where it could have a meaning.
_SPECIAL: Final = re.compile(
    r"""[\\`*\[\]<>~|]
    |(?<!\w)_|_(?!\w)
    |&(?=\#?\w+;)
    |:(?=//)
    |(?<=www)\.""",
    re.IGNORECASE | re.VERBOSE,
)


def escape(text: str) -> str:
    """Return a text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
