"""The client could be published as it is."""

from pathlib import Path
import subprocess
import sys

from custom_components.smartpvms import northbound


def test_client_knows_nothing_of_home_assistant() -> None:
    """Importing the client imports nothing of Home Assistant."""
    folder = Path(northbound.__file__).parent
    script = (
        f"import sys; sys.path.insert(0, {str(folder.parent)!r}); import northbound;"
        "print(*(name for name in sys.modules if name.startswith('homeassistant')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
