"""Run the examples that end in a picture, and keep the pictures in docs/gallery.

Usage: python -m docs.make_gallery     (from the repository's root; half a minute)
"""

import runpy
import sys
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "docs" / "gallery"
EXAMPLES = ("where_it_looked", "this_and_not_that", "wrong_labels", "forgotten", "shortcut", "region_graph")


def draw(name: str, folder: Path) -> Path:
    """Run an example; return the picture that it drew in ``folder``."""
    script, picture = ROOT / "examples" / f"{name}.py", folder / f"{name}.png"
    with patch.object(sys, "argv", [str(script), str(picture)]):
        runpy.run_path(str(script), run_name="__main__")
    return picture


def main() -> None:
    """Draw all of them, with few colours: they are small."""
    from PIL import Image

    GALLERY.mkdir(exist_ok=True)
    for name in EXAMPLES:
        picture = draw(name, GALLERY)
        Image.open(picture).convert("RGB").quantize(128).save(picture, optimize=True)


if __name__ == "__main__":
    main()
