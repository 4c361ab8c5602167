"""Test that the client can be published without Home Assistant."""

from pathlib import Path
import subprocess
import sys

import pytest

from custom_components.smartpvms import northbound

pytestmark = pytest.mark.fast


def test_client_is_independent_of_home_assistant() -> None:
    """Importing the client does not import Home Assistant."""
    folder = Path(northbound.__file__).parent
    script = (
        f"import sys; sys.path.insert(0, {str(folder.parent)!r}); import northbound;"
        "print(*(name for name in sys.modules if name.startswith('homeassistant')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
