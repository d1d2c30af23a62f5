"""The page under a random hand: does it say what the package says, and how soon.

Usage: python -m benchmarks.page [NAME] [--data DATA --backbone NAME --checkpoint FILE --tokens FOLDER] [--regions ...]

Some test pictures of a data set are explained, and each page is opened in Chromium, as a desk and as a phone have it.
Random clicks, strokes, choices and keys; after each, every logit and probability behind the page, and each as it is
shown, against a fit on the training pictures as they are then: no state passes by. Inner products are kept from one fit
to the next, but for those of pictures of which tiles are hidden; some states are fitted by ``RidgeHead`` too, and both
must agree. Counted: answers, refusals, words on the console, requests. Timed: a change, from event to next frame.

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


class Refits:
    """Ridge regression on edited training pictures, solved anew each time, in its dual form; no formula of an edit.

    ::

        (C k C^T + lam diag(1 / w)) alpha = Y - ym,    logit(g) = ym + alpha^T C (k(., g) - k(., gm))

    with k inner products and C x = x - gm, over the pictures that are there. k of all of them is computed once.
    """

    def __init__(self, head: RidgeHead) -> None:
        self.head, self.G = head, head.G.double()
        self.inner = self.G @ self.G.mT

    def logits(self, g: Tensor, gone: set[int], moved: dict[int, int], instead: dict[int, Tensor]) -> Tensor:
        """Return the logits of g.

        Args:
            g: An embedding.
            gone: Training pictures that are left out.
            moved: New classes of some.
            instead: Other embeddings of some.
        """
        k, k_g = self.inner, self.G @ g
        if instead:
            rows, new = list(instead), torch.stack(list(instead.values()))
            across = self.G @ new.mT
            across[rows] = new @ new.mT
            k, k_g = k.clone(), k_g.clone()
            k[:, rows], k[rows], k_g[rows] = across, across.mT, new @ g
        Y, w = self.head.Y.clone(), self.head.sample_weight
        for row, label in moved.items():
            Y[row] = torch.eye(Y.shape[1], dtype=Y.dtype)[label]
        if gone:
            stay = torch.tensor([row for row in range(len(Y)) if row not in gone])
            k, k_g, Y, w = k[stay][:, stay], k_g[stay], Y[stay], w[stay]
        share = w / w.sum() * self.head.fit_intercept
        to_mean, ym = k @ share, share @ Y
        centred = k - to_mean - to_mean.unsqueeze(1) + share @ to_mean
        centred.diagonal().add_(self.head.lam / w)
        alpha = torch.cholesky_solve(Y - ym, torch.linalg.cholesky(centred))
        return ym + (k_g - to_mean - share @ k_g + share @ to_mean) @ alpha


class Package:
    """What the package answers in a state of a page."""

    def __init__(self, model: Carrot, refits: Refits, e: Explanation, checks: int) -> None:
        assert e.counterfactuals is not None
        self.fitted, self.c, self.temperature = model.fitted, e.counterfactuals, model.temperature_
        self.refits, self.checks, self.off = refits, checks, 0.0

    def logits(self, state: dict[str, Any]) -> Tensor:
        """Return the logits that it gives."""
        c, rows = self.c, self.c.rows
        g = c.picture.shown(_kept(len(c.picture.H), state["dropped"]))
        gone = {rows[k] for k in state["out"]}
        moved = {rows[int(k)]: label for k, label in state["relabel"].items() if rows[int(k)] not in gone}
        hidden = {int(k): r for k, r in state["hidden"].items() if r and rows[int(k)] not in gone}
        instead = {rows[k]: c.traces[k].shown(_kept(len(c.traces[k].H), r)) for k, r in hidden.items()}
        found = self.refits.logits(g, gone, moved, instead)
        if self.checks and gone and instead:
            self.checks -= 1
            self.off = max(self.off, float((found - self._fitted(gone, moved, instead).predict(g)).abs().max()))
        return found

    def _fitted(self, gone: set[int], moved: dict[int, int], instead: dict[int, Tensor]) -> RidgeHead:
        """Return the package's own fit."""
        head = self.refits.head
        G, Y, stay = self.refits.G.clone(), head.Y.clone(), torch.ones(len(head.G), dtype=torch.bool)
        for row, z in instead.items():
            G[row] = z
        for row, label in moved.items():
            Y[row] = torch.eye(Y.shape[1], dtype=Y.dtype)[label]
        stay[list(gone)] = False
        return RidgeHead(head.lam, head.fit_intercept).fit(G[stay], Y[stay], head.sample_weight[stay])


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
    parser.add_argument("--checks", type=int, default=5, help="states of a picture that RidgeHead fits too")
    given = parser.parse_args()
    data = open_dataset(given.data) if given.data else ToyBirds(n_train_per_class=10, n_test_per_class=4, n_species=8)
    model = Carrot(given.backbone, checkpoint=given.checkpoint, regions=given.regions).fit(data, tokens=given.tokens)
    test, refits = split_indices(data, "test"), Refits(model.head_)
    rng, rows, console = random.Random(0), [], list[str]()
    chromium = next(
        found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))
    )
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for k in range(given.pictures):
            place = test[k * len(test) // given.pictures]
            e = model.explain(data.image(place))
            package, path = Package(model, refits, e, given.checks), Path(folder) / f"{k}.html"
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
                compared += 1
                behind, shown = differences(package, package.logits(found["state"]), found, e.classes)
                worst, worst_shown = max(worst, behind), max(worst_shown, shown)
            page.evaluate("location.hash = ''")
            times = [float(page.evaluate(TIMED)) for _ in range(40)]
            row = {
                "picture": data.records[place].id,
                "screen": SCREENS[k % 2]["width"],
                "interactions": given.interactions // given.pictures,
                "refused": refused,
                "compared": compared,
                "fitted_by_package": given.checks - package.checks,
                "fits_differ": package.off,
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
    differ = ("largest_difference", "largest_difference_shown", "fits_differ")
    failed = [row for row in rows if max(row[name] for name in differ) > TOLERANCE]
    if failed or console:
        raise SystemExit(f"not what the package says, or not quiet: {failed} {console[:3]}")
    name = data.name if given.data else "toy"
    facts = {"data": name, "backbone": model.encoder.spec.name, "setting": str(model.setting_)}
    print(
        write(f"page-{given.name}", rows, training_pictures=len(model.records_), classes=len(model.classes_), **facts)
    )


if __name__ == "__main__":
    main()
