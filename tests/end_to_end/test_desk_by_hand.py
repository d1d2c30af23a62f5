"""The explorer in a browser: the desk by keyboard, kept through a reload, and one's own picture pasted."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed: nobody can press a key")
pytest.importorskip("starlette", reason="pip install '.[app]'")

from playwright import sync_api as api

from carrot import Carrot
from carrot.app.decisions import Decisions
from carrot.data.toy import ToyBirds
from tests.served import served as explorer

CHROMIUM = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no browser")
BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=1, n_species=4, wrong_labels=0.15)
PASTE = """async () => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 64;
  canvas.getContext("2d").fillRect(0, 0, 32, 32);
  const transfer = new DataTransfer();
  transfer.items.add(new File([await new Promise((done) => canvas.toBlob(done))], "mine.png", { type: "image/png" }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
}"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server of toy birds, and their model's folder."""
    for place, record in enumerate(BIRDS.records):
        folder = tmp_path / "birds" / record.split / BIRDS.classes[record.label]
        folder.mkdir(parents=True, exist_ok=True)
        BIRDS.image(place).save(folder / f"{place}.png")
    model = Carrot("toy", regions="tiles:2@0", lam=0.1).fit(tmp_path / "birds", tokens=tmp_path / "m" / "tokens")
    model.save(tmp_path / "m")
    with explorer(tmp_path / "m") as address:
        yield address, tmp_path / "m"


@pytest.fixture
def page(served: tuple[str, Path]) -> Iterator[Any]:
    """A page that nothing went wrong on, and that asked nothing of others."""
    wrong: list[str] = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = browser.new_page()
        found.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        found.on("pageerror", lambda error: wrong.append(str(error)))
        found.on(
            "request", lambda asked: None if asked.url.startswith((served[0], "data:")) else wrong.append(asked.url)
        )
        yield found
        browser.close()
    assert not wrong


def at(page: Any, place: int) -> None:
    """Wait until that suspect is shown."""
    page.locator("#where", has_text=re.compile(rf"^{place} of ")).wait_for()


def decided(page: Any, number: int) -> None:
    """Wait until so many are decided, and the next one is shown."""
    page.locator("#where", has_text=re.compile(rf"· {number} of \d+ decided$")).wait_for()


def test_the_desk_by_keyboard(served: tuple[str, Path], page: Any) -> None:
    address, folder = served
    page.goto(f"{address}/desk")
    decided(page, 0)
    page.locator("#pair", has_text="pairs").wait_for()
    assert page.locator(".box").count() == 2
    for key, done in (("r", 1), ("f", 2), ("k", 3)):
        promised = page.locator(f'.move[data-action="{dict(r="relabel", f="forget", k="keep")[key]}"]').inner_text()
        page.keyboard.press(key)
        decided(page, done)
        if key != "k":
            right = promised.split(" right")[0].split("\n")[-1]
            page.locator(".move[data-action=keep]", has_text=f"{right} right").wait_for()
    assert [decision.action for decision in Decisions(folder / "desk").all] == ["relabel", "forget", "keep"]
    page.keyboard.press("u")
    decided(page, 2)
    page.reload()
    at(page, 3)
    page.keyboard.press("ArrowLeft")
    at(page, 2)
    page.go_back()
    at(page, 3)
    page.locator("#apply button").click()
    page.locator("#made", has_text="relabelled 1 training picture").wait_for()
    assert len(Carrot.load(folder.parent / "m-2").records_) == 23
    assert len(Carrot.load(folder).records_) == 24


def test_when_all_is_settled_the_desk_says_so_and_what_comes_next(served: tuple[str, Path], page: Any) -> None:
    page.goto(f"{served[0]}/desk")
    decided(page, 0)
    n = page.locator("#strip li").count()
    assert page.locator("#settled").is_hidden()
    page.keyboard.press("r")
    for done in range(1, n):
        decided(page, done)
        page.keyboard.press("k")
    page.locator("#settled", has_text=f"All {n} doubtful labels are settled. Next: make the new version").wait_for()
    page.keyboard.press("u")
    decided(page, n - 1)
    assert page.locator("#settled").is_hidden()
    page.keyboard.press("c")
    page.keyboard.type(BIRDS.classes[0][:-1])
    page.keyboard.press("Enter")
    page.locator("#extra button", has_text=BIRDS.classes[0]).first.click()
    page.locator("#extra b", has_text=re.compile(f"^Relabel: {BIRDS.classes[0]}$")).wait_for()
    assert page.locator("#other").input_value() == BIRDS.classes[0]


def test_a_picture_that_is_pasted_is_explained(served: tuple[str, Path], page: Any) -> None:
    page.goto(served[0])
    page.evaluate(PASTE)
    page.wait_for_url("**/yours/*")
    assert "mine.png" in page.content()
    page.goto(served[0])
    page.locator(".card a").first.click()
    page.wait_for_url("**/page*")
    assert page.locator(".explore-bar").count() == 1
    page.get_by_text("To the desk").click()
    decided(page, 0)


def test_a_new_class_is_typed_and_two_at_the_desk_are_told(served: tuple[str, Path], page: Any) -> None:
    address, folder = served
    page.goto(f"{address}/desk")
    decided(page, 0)
    other = page.context.browser.new_page()  # somebody else, who sees the same picture
    other.goto(f"{address}/desk")
    decided(other, 0)
    page.keyboard.press("c")
    page.keyboard.type("owl")
    page.keyboard.press("Enter")
    page.locator("#extra", has_text="Relabel: owl (a new class)").wait_for()
    assert "No other picture is of owl" in page.locator("#extra").inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    decided(page, 1)
    assert page.locator("#flag").inner_text().strip() == "--new-class"
    at(page, 2)
    page.keyboard.press("ArrowLeft")
    page.locator('#extra .move[aria-pressed="true"]', has_text="owl").wait_for()
    other.keyboard.press("f")
    other.locator("#told", has_text="somebody else decided on it: relabel owl").wait_for()
    decided(other, 1)
    assert [decision.label for decision in Decisions(folder / "desk").all] == ["owl"]
    other.keyboard.press("f")  # it has been seen now
    other.locator("#where", has_text=re.compile(r"^2 of .* 1 of \d+ decided$")).wait_for()
    assert [decision.action for decision in Decisions(folder / "desk").all] == ["forget"]
    other.close()


def test_sliders_and_a_drawn_box(served: tuple[str, Path], page: Any) -> None:
    page.goto(f"{served[0]}/?show=suspects&sort=margin")
    shown = page.locator(".card").count()
    page.locator("input[name=p]").focus()
    page.keyboard.press("Home")
    page.wait_for_url("**p=0.01*")
    assert page.locator(".card").count() < shown
    page.evaluate(PASTE)
    page.wait_for_url("**/yours/*")
    page.get_by_text("Only a part of it").click()
    picture = page.locator("#part img")
    picture.wait_for()
    frame = picture.bounding_box()
    page.mouse.move(frame["x"] + frame["width"] / 4, frame["y"] + frame["height"] / 4)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"])
    page.mouse.up()
    assert [page.locator(f"input[name={name}]").input_value() for name in ("x", "y", "width", "height")] == [
        *("16", "16", "16", "48"),
    ]
    assert page.locator("#part .box").is_visible()
    page.get_by_text("Explain this part").click()
    page.wait_for_url("**?x=16&y=16&width=16&height=48")
    assert "mine.png (box 16,16,16,48)" in page.content()
