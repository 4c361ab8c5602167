"""Tests of texts that are shown as Markdown."""

import pytest

from custom_components.smartpvms.markdown import escape

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("Meier & Söhne (Süd), Dach 2. OG", "Meier & Söhne (Süd), Dach 2. OG"),
        ("demo_api", "demo_api"),
        ("![a](https://b.c/d.png)", r"!\[a\](https\://b.c/d.png)"),
        ("<img src=x>", r"\<img src=x\>"),
        ("WWW.example.com", r"WWW\.example.com"),
        ("*a* _b_ `c` ~d~ |e|", r"\*a\* \_b\_ \`c\` \~d\~ \|e\|"),
        ("&lt;b&#62; R&D", r"\&lt;b\&#62; R&D"),
        ("a\n\n# b\r\n- c", "a # b - c"),
        ("a\\[b", r"a\\\[b"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    """Only characters with a meaning are escaped."""
    assert escape(text) == escaped
