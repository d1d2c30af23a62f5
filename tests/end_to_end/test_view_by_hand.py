"""The page under a hand: clicks, strokes of a brush, taps, keys, undo; what it answers then is what its link answers.

Asks for the extra `browser` (Playwright) and a Chromium; ``test_view.py`` asks for a Chromium alone.
"""

import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from carrot import Carrot
from tests.end_to_end.test_view import BIRDS, CHROMIUM, PICTURE

pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed: nobody can click")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: the page can't be opened")
STEPS = 60


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    Carrot("toy", regions="tiles:2,3", t=0.5).fit(BIRDS).explain(PICTURE).to_html(path)
    return path


@pytest.fixture(params=[{"width": 1200, "height": 900}, {"width": 390, "height": 800}], ids=["desk", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, path: Path) -> Iterator[Any]:
    """The page, opened; at the end nothing was said on its console, and nothing was asked of the outside."""
    said: list[str] = []
    context = browser.new_context(viewport=request.param, has_touch=request.param["width"] < 500)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda one: said.append(one.url) if not one.url.startswith(("file:", "data:")) else None)
    page.goto(path.as_uri())
    yield page
    context.close()
    assert said == []


def point(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where a place of the picture is on the screen, in shares of its width and height."""
    box = page.locator("#picture .frame svg").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def link(page: Any) -> str:
    return str(page.evaluate("location.hash"))


def said(page: Any) -> str:
    return "".join(page.inner_text(f"#{part}") for part in ("sentence", "supporters", "classes", "training"))


def test_what_is_pointed_at_is_what_is_coloured_there_and_all_that_it_saw_is_framed(page: Any, path: Path) -> None:
    data = page.evaluate("JSON.parse(document.getElementById('carrot-data').textContent).picture")
    width, height = data["size"]
    draw = random.Random(0)
    for _ in range(12):
        x, y = draw.uniform(0.13, 0.87), draw.uniform(0.13, 0.87)
        page.mouse.move(*point(page, x, y))
        hot = page.locator("#picture .tile.hot")
        assert hot.count() == 1
        box = [float(hot.get_attribute(key)) for key in ("x", "y", "width", "height")]
        (region,) = [r for r, (x0, y0, x1, y1) in enumerate(data["boxes"]) if [x0, y0, x1 - x0, y1 - y0] == box]
        x0, y0, x1, y1 = data["drawn"][region]
        assert x0 - 1 <= x * width <= x1 + 1
        assert y0 - 1 <= y * height <= y1 + 1


def test_where_one_grid_alone_is_coloured_its_tile_is_picked(browser: Any, tmp_path: Path) -> None:
    """Near the edge of a tall picture the middle of a coarser tile can be nearer than that of the one shown."""
    path = tmp_path / "tall.html"
    width, height = PICTURE.size
    Carrot("toy", regions="tiles:2,3").fit(BIRDS).explain(PICTURE.resize((width, 2 * height))).to_html(path)
    page = browser.new_page(viewport={"width": 1200, "height": 1400})
    page.goto(path.as_uri())
    (x, y), there = (0.851, 0.617), f"{width}, {2 * height}"  # between 5/6, where the coarser end, and 7/8
    place = f"new DOMPoint(...[{x}, {y}].map((z, i) => z * [{there}][i]))"
    found = page.evaluate(
        f"(() => {{ const svg = document.querySelector('#picture .frame svg'), "
        f"p = {place}.matrixTransform(svg.getScreenCTM()); return [p.x, p.y]; }})()"
    )
    page.mouse.click(*found)
    assert link(page) == "#x=9", "the middle right of 3 x 3"
    page.close()


def test_a_click_hides_and_the_next_shows_again(page: Any) -> None:
    before = said(page)
    page.mouse.click(*point(page, 0.1, 0.1))
    hidden = link(page)
    assert hidden.startswith("#x=")
    place = page.evaluate("JSON.parse(document.getElementById('carrot-data').textContent).picture.where")[
        int(hidden[3:])
    ]
    assert place.startswith("the upper left")
    assert page.inner_text("#sentence").startswith(f"Without {place}, the model says ")
    assert page.inner_text("#heard").startswith(f"Without {place}, the model says ")
    page.mouse.click(*point(page, 0.1, 0.1))
    assert link(page) in ("", "#")
    assert said(page) == before


def test_a_stroke_is_one_step(page: Any) -> None:
    page.mouse.move(*point(page, 0.05, 0.05))
    page.mouse.down()
    page.mouse.move(*point(page, 0.95, 0.95), steps=12)
    page.mouse.up()
    page.wait_for_function("location.hash.split('.').length > 2")
    page.keyboard.press("Control+z")
    assert link(page) in ("", "#")
    assert page.is_disabled("#undo")
    page.keyboard.press("Control+Shift+z")
    assert link(page).count(".") >= 2


def test_keys_reach_every_tile(page: Any) -> None:
    tiles = page.locator("#picture .tile")
    page.locator('#picture .tile[tabindex="0"]').focus()
    met = set()
    for key in ["ArrowRight"] * 5 + ["ArrowDown"] * 5 + ["ArrowLeft"] * 5 + ["ArrowUp"] * 5:
        met.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        page.keyboard.press(key)
    assert len(met) > tiles.count() / 2
    page.keyboard.press(" ")
    assert link(page).startswith("#x=")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.keyboard.press("Enter")
    assert link(page) in ("", "#")


def test_a_tap_is_enough(browser: Any, path: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(path.as_uri())
    page.touchscreen.tap(*point(page, 0.5, 0.5))
    assert link(page).startswith("#x=")
    for name in ("undo", "redo", "reset", "brush", "target", "against"):
        assert page.locator(f"#{name}").bounding_box()["height"] >= 44
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_training_pictures_are_left_out_and_relabelled(page: Any) -> None:
    card = page.locator(".card").first
    card.get_by_role("button", name="Leave it out: training picture").click()
    assert link(page) == "#o=0"
    assert "Left out." in card.inner_text()
    page.click("#undo")
    choice = card.locator("select")
    label = choice.input_value()
    choice.select_option(index=(int(label) + 1) % 4)
    assert link(page) == f"#l=0-{(int(label) + 1) % 4}"
    choice.select_option(label)
    assert link(page) in ("", "#")


def test_whatever_is_done_adds_up_and_is_in_the_link(page: Any, path: Path) -> None:
    """Random clicks, strokes, keys and choices; then all of it undone."""
    rng, start = random.Random(0), said(page)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    start = said(page)

    def any_of(pattern: str) -> Any:
        return page.locator(pattern).nth(rng.randrange(page.locator(pattern).count()))

    def choose(pattern: str) -> None:
        found = any_of(pattern)
        if found.is_enabled():
            found.select_option(index=rng.randrange(found.locator("option").count()))

    def stroke() -> None:
        page.evaluate("window.scrollTo(0, 0)")
        page.mouse.move(*point(page, rng.random(), rng.random()))
        page.mouse.down()
        page.mouse.move(*point(page, rng.random(), rng.random()), steps=5)
        page.mouse.up()

    acts = [
        stroke,
        lambda: any_of(".acts > button").click(),
        lambda: any_of(".list button").click(),
        lambda: choose(".acts select"),
        lambda: choose(".chosen select"),
        lambda: page.keyboard.press(rng.choice(["Control+z", "Control+Shift+z", "Control+y"])),
    ]
    for step in range(STEPS):
        rng.choice(acts)()
        page.evaluate("new Promise(requestAnimationFrame)")
        if page.get_attribute("body", "class") == "refused":
            continue
        *terms, total = map(Fraction, page.locator("#supporters .number").all_inner_texts())
        assert sum(terms) == total
        if step % 10 == 0:
            other = page.context.new_page()
            other.goto(path.as_uri() + link(page))
            other.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert said(other) == said(page)
            other.close()
    while page.is_enabled("#undo"):
        page.click("#undo")
    assert said(page) == start


@pytest.mark.parametrize(("width", "high"), [(1200, 800), (390, 800)])
def test_nothing_moves_under_the_finger(browser: Any, path: Path, width: int, high: int) -> None:
    """A second click on the same spot takes the first back."""
    page = browser.new_page(viewport={"width": width, "height": high})
    page.goto(path.as_uri())
    top = page.locator("#picture .frame svg").bounding_box()["y"]
    scale = page.locator("#picture .legend .ends").inner_text().split()[0]
    for place in ((0.5, 0.5), (0.2, 0.2), (0.8, 0.8)):
        spot = point(page, *place)
        page.mouse.click(*spot)
        assert link(page).startswith("#x=")
        assert page.locator("#picture .frame svg").bounding_box()["y"] == pytest.approx(top, abs=0.5)
        assert page.locator("#picture .legend .ends").inner_text().split()[0] == scale, "one scale"
        page.mouse.click(*spot)
        assert link(page) in ("", "#")
        assert page.locator("#picture .frame svg").bounding_box()["y"] == pytest.approx(top, abs=0.5)
    page.close()
