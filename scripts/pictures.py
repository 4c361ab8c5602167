"""Copy screenshots of the browser tests into docs/images, in a small size."""

from pathlib import Path
import sys
from typing import Final

from PIL import Image

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"

# Names of screenshots, and of the pictures in README and docs.
PICTURES: Final = {
    "add-form": "set-up",
    "flows-lindenweg-12-inverter-1": "inverter",
    "flows-lindenweg-12": "plant",
    "dashboard": "home-dashboard",
    "energy-yesterday-overview": "energy-dashboard",
    "energy-now-30d-electricity": "history",
}

# GitHub shows wider pictures too small to read.
WIDTH: Final = 1200


def put(screenshot: Path) -> None:
    """Copy a screenshot to docs, if it is used there."""
    if (name := PICTURES.get(screenshot.stem)) is None:
        return
    picture = Image.open(screenshot).convert("RGB")
    picture.thumbnail((WIDTH, picture.height), Image.Resampling.LANCZOS)
    # Pages have few colors, and the rare ones, those of icons, must be kept.
    picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(
        IMAGES / f"{name}.png", optimize=True
    )
    print(f"docs/images/{name}.png")


if __name__ == "__main__":
    for file in sys.argv[1:]:
        put(Path(file))
