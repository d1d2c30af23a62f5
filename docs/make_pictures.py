"""Draw the pictures of the README and of docs/: a page, one toy bird taken apart, and a sheet of maps of many.

Usage: python -m docs.make_pictures     (from the repository's root; half a minute; a Chromium and the extra `browser`)
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from carrot import Carrot, Tiling
from carrot._ridge.logit import Logit
from carrot.data.toy import ToyBirds
from carrot.explanation.parts import take_apart
from carrot.explanation.written import write_figure

DOCS = Path(__file__).resolve().parent
SHOWN = 410  # a test picture: the bird stands aside
ROWS, COLUMNS = 5, 8


def sheet(model: Carrot, birds: ToyBirds) -> Figure:
    """Return ``ROWS`` x ``COLUMNS`` test pictures, each beside the map of what the model says, over pixels."""
    test = [i for i, record in enumerate(birds.records) if record.split == "test"]
    chosen = [test[k * len(test) // (ROWS * COLUMNS)] for k in range(ROWS * COLUMNS)]
    tiling = Tiling.from_spec(model.setting_.regions)
    figure = Figure(figsize=(2.4 * COLUMNS, 1.35 * ROWS), layout="constrained")
    for axes, i in zip(figure.subplots(ROWS, 2 * COLUMNS).reshape(-1, 2), chosen, strict=True):
        image, trace = birds.image(i), model.trace(birds.image(i))
        logit = Logit.predicted(model.head_, trace.g)
        spread = tiling.pixel_map(take_apart(trace, logit).token[: len(tiling)], image.size).numpy()
        limit, is_right = float(np.abs(spread).max()), logit.target == birds.records[i].label
        axes[0].imshow(image)
        axes[1].imshow(image.convert("L"), cmap="gray")
        axes[1].imshow(spread, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.6)
        axes[1].set_title(model.classes_[logit.target] + ("" if is_right else " (wrong)"), fontsize=6)
        for axis in axes:
            axis.axis("off")
    return figure


def photograph(page: Path, picture: Path) -> None:
    """Write what a page shows when it is opened, down to its training pictures."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1200, "height": 1000}, color_scheme="light")
        opened.goto(page.as_uri())
        cards = opened.locator(".card").first.bounding_box()
        height = 1000 if cards is None else int(cards["y"] + cards["height"]) - 70
        opened.screenshot(path=picture, full_page=True, clip={"x": 60, "y": 0, "width": 1080, "height": height})
        browser.close()


def main() -> None:
    """Draw them."""
    birds = ToyBirds()
    with tempfile.TemporaryDirectory() as folder:
        model = Carrot("toy").select(birds, tokens=folder)
        shown = model.explain(birds.image(SHOWN))
        write_figure(shown.plot(), DOCS / "explanation.png")
        shown.to_html(Path(folder) / "page.html")
        photograph(Path(folder) / "page.html", DOCS / "page.png")
        write_figure(sheet(model, birds), DOCS / "maps.png")


if __name__ == "__main__":
    main()
