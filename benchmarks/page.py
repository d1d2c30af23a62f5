"""The page under a random hand: does it say what the package says, and how soon.

Usage: python -m benchmarks.page [NAME] [--data DATA --backbone NAME --checkpoint FILE --tokens FOLDER] [--regions ...]

Some test pictures of a data set are explained, and each page is opened in Chromium, as a desk and as a phone have it.
Random clicks, strokes, choices and keys; after each, every logit and probability behind the page, and each as it is
shown, against the package: formulas for pictures out or relabelled, a real fit where tiles of training pictures are
hidden. Counted: answers, refusals, words on the console, requests. Timed: a change from the event to the next frame.

Needs the extras `browser` and a Chromium. Writes benchmarks/results/page-NAME.json.
"""

import argparse
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from playwright.sync_api import Page, sync_playwright
from torch import Tensor

from benchmarks.harness import write
from carrot import Carrot
from carrot.data import open_dataset, split_indices
from carrot.data.toy import ToyBirds
from carrot.explanation import Explanation
from carrot.head import RidgeHead
from carrot.influence import edit_effect

SCREENS = ({"width": 1200, "height": 900}, {"width": 390, "height": 800})
TOLERANCE = 1e-6
STATE = """() => {
  const data = JSON.parse(document.getElementById("carrot-data").textContent), model = CARROT.load(data);
  const state = CARROT.fromHash(location.hash, model), a = CARROT.answer(model, state);
  if (a.refused) return { state, refused: a.refused };
  const rows = [...document.querySelectorAll("#classes tbody tr")].filter((row) => row.offsetParent !== null);
  return { state, refused: null, logits: [...a.logits], probabilities: [...a.probabilities],
           shown: rows.map((row) => [...row.querySelectorAll("th, td")].map((cell) => cell.textContent.trim())) };
}"""
TIMED = """() => new Promise((done) => {
  const tiles = [...document.querySelectorAll("#picture .list button")];
  const start = performance.now();
  tiles[Math.floor(Math.random() * tiles.length)].click();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""


class Package:
    """What the package answers in a state of a page."""

    def __init__(self, model: Carrot, e: Explanation, fits: int) -> None:
        assert e.counterfactuals is not None
        self.head, self.fitted, self.c, self.temperature = (
            model.head_,
            model.fitted,
            e.counterfactuals,
            model.temperature_,
        )
        self.fits, self.most = 0, fits

    def logits(self, state: dict[str, Any]) -> Tensor | None:
        """Return the logits that it gives; None: that would be one real fit too many."""
        c, rows = self.c, self.c.rows
        g = c.picture.shown(_kept(len(c.picture.H), state["dropped"]))
        gone = {rows[k] for k in state["out"]}
        moved = {rows[int(k)]: label for k, label in state["relabel"].items() if rows[int(k)] not in gone}
        moved = {row: label for row, label in moved.items() if label != int(self.fitted.labels[row])}
        hidden = {int(k): r for k, r in state["hidden"].items() if r and rows[int(k)] not in gone}
        if not hidden:
            changed = edit_effect(self.head, g, sorted(gone), moved) if gone or moved else 0.0
            return self.head.predict(g) + changed
        if self.fits == self.most:
            return None
        self.fits += 1
        G, Y, stay = self.head.G.double().clone(), self.head.Y.clone(), torch.ones(len(self.head.G), dtype=torch.bool)
        for k, regions in hidden.items():
            G[rows[k]] = c.traces[k].shown(_kept(len(c.traces[k].H), regions))
        for row, label in moved.items():
            Y[row] = torch.eye(Y.shape[1], dtype=Y.dtype)[label]
        stay[list(gone)] = False
        fit = RidgeHead(self.head.lam, self.head.fit_intercept).fit(G[stay], Y[stay], self.head.sample_weight[stay])
        return fit.predict(g)


def _kept(N: int, gone: list[int]) -> Tensor:
    kept = torch.ones(N, dtype=torch.bool)
    kept[gone] = False
    return kept


def acts(page: Page, rng: random.Random) -> list[Callable[[], object]]:
    """Return what a hand may do."""

    def any_of(pattern: str) -> Any:
        found = page.locator(pattern)
        return found.nth(rng.randrange(found.count()))

    def press(pattern: str) -> None:
        if page.locator(pattern).count() and (one := any_of(pattern)).is_enabled():
            one.click()

    def choose(pattern: str) -> None:
        if page.locator(pattern).count() and (one := any_of(pattern)).is_enabled():
            one.select_option(index=rng.randrange(one.locator("option").count()))

    def stroke() -> None:
        page.evaluate("window.scrollTo(0, 0)")
        box = page.locator("#picture .frame svg").bounding_box()
        assert box is not None

        def at() -> tuple[float, float]:
            return box["x"] + rng.random() * box["width"], box["y"] + rng.random() * box["height"]

        page.mouse.move(*at())
        page.mouse.down()
        page.mouse.move(*at(), steps=5)
        page.mouse.up()

    keys = ["Control+z", "Control+z", "Control+Shift+z"]
    return [
        stroke,
        lambda: press(".acts > button"),
        lambda: press(".list button"),
        lambda: press(".list button"),
        lambda: choose(".acts select"),
        lambda: choose(".chosen select"),
        lambda: page.keyboard.press(rng.choice(keys)),
        lambda: page.click("#reset") if rng.random() < 0.2 and page.is_enabled("#reset") else None,
    ]


def differences(
    package: Package, logits: Tensor, found: dict[str, Any], classes: tuple[str, ...]
) -> tuple[float, float]:
    """Return the largest difference of a logit or probability, and of one that is shown, less half its last digit."""
    p = torch.softmax(logits / package.temperature, dim=0)
    behind = max(
        float((torch.tensor(found["logits"], dtype=torch.float64) - logits).abs().max()),
        float((torch.tensor(found["probabilities"], dtype=torch.float64) - p).abs().max()),
    )
    shown = 0.0
    for title, score, *_ in found["shown"]:
        c = next((c for c, name in enumerate(classes) if title == name or title.startswith(f"{name} (")), None)
        text = score.replace("\N{MINUS SIGN}", "-")
        half = 0.5 * 10.0 ** -len(text.partition(".")[2])
        if c is not None:
            shown = max(shown, abs(float(text) - float(logits[c])) - half)
    return behind, shown


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="toy")
    parser.add_argument("--data")
    parser.add_argument("--backbone", default="toy")
    parser.add_argument("--checkpoint")
    parser.add_argument("--tokens")
    parser.add_argument("--regions", default="tiles:3,4")
    parser.add_argument("--interactions", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--fits", type=int, default=1000, help="real fits a picture; states that ask for more pass by")
    given = parser.parse_args()
    data = open_dataset(given.data) if given.data else ToyBirds(n_train_per_class=10, n_test_per_class=4, n_species=8)
    model = Carrot(given.backbone, checkpoint=given.checkpoint, regions=given.regions).fit(data, tokens=given.tokens)
    test = split_indices(data, "test")
    rng, rows, console = random.Random(0), [], list[str]()
    chromium = next(
        found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))
    )
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for k in range(given.pictures):
            e = model.explain(data.image(test[k * len(test) // given.pictures]))
            package, path = Package(model, e, given.fits), Path(folder) / f"{k}.html"
            e.to_html(path)
            context = browser.new_context(viewport=SCREENS[k % 2])
            page = context.new_page()
            page.on("console", lambda message: console.append(message.text))
            page.on("pageerror", lambda error: console.append(str(error)))
            page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else console.append(r.url))
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            things, worst, worst_shown, refused, compared = acts(page, rng), 0.0, 0.0, 0, 0
            for _ in range(given.interactions // given.pictures):
                rng.choice(things)()
                found = page.evaluate(STATE)
                if found["refused"]:
                    refused += 1
                    continue
                logits = package.logits(found["state"])
                if logits is None:
                    continue
                compared += 1
                behind, shown = differences(package, logits, found, e.classes)
                worst, worst_shown = max(worst, behind), max(worst_shown, shown)
            page.evaluate("location.hash = ''")
            times = [float(page.evaluate(TIMED)) for _ in range(40)]
            row = {
                "picture": e.picture.id,
                "screen": SCREENS[k % 2]["width"],
                "interactions": given.interactions // given.pictures,
                "refused": refused,
                "compared": compared,
                "real_fits": package.fits,
                "largest_difference": worst,
                "largest_difference_shown": worst_shown,
                "milliseconds_median": median(times),
                "milliseconds_most": max(times),
                "megabytes": path.stat().st_size / 1e6,
            }
            print(row)
            rows.append(row)
            context.close()
        browser.close()
    failed = [row for row in rows if max(row["largest_difference"], row["largest_difference_shown"]) > TOLERANCE]
    if failed or console:
        raise SystemExit(f"not what the package says, or not quiet: {failed} {console[:3]}")
    name = data.name if given.data else "toy"
    facts = {"data": name, "backbone": model.encoder.spec.name, "setting": str(model.setting_)}
    print(
        write(f"page-{given.name}", rows, training_pictures=len(model.records_), classes=len(model.classes_), **facts)
    )


if __name__ == "__main__":
    main()
