"""Put screenshots of the browser tests into docs/images, as small as they can be."""

from pathlib import Path
import sys
from typing import Final

from PIL import Image

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"

# Names of screenshots, and of the pictures that README and docs show.
PICTURES: Final = {
    "add-form": "set-up",
    "flows-inverter-1": "inverter",
    "flows-lindenweg-12": "plant",
    "dashboard": "home-dashboard",
    "energy-yesterday-overview": "energy-dashboard",
    "energy-now-30d-electricity": "history",
}

# What GitHub shows of a wider picture is hard to read.
WIDTH: Final = 1200


def put(screenshot: Path) -> None:
    """Put a screenshot into docs, if it is shown there."""
    if (name := PICTURES.get(screenshot.stem)) is None:
        return
    picture = Image.open(screenshot).convert("RGB")
    picture.thumbnail((WIDTH, picture.height), Image.Resampling.LANCZOS)
    # Pages have few colors, of which even the rare ones, those of icons, have to stay.
    picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(
        IMAGES / f"{name}.png", optimize=True
    )
    print(f"docs/images/{name}.png")


if __name__ == "__main__":
    for file in sys.argv[1:]:
        put(Path(file))
