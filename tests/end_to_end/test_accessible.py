"""What anybody sees, by axe-core's rules (extra ``browser``): pages, index, report and explorer, light and dark.

Classes have names that are too long for a line: whatever is on a page must fit into its width.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from carrot import Carrot
from carrot.cli import main
from tests.end_to_end.test_view import BIRDS, CHROMIUM

pytest.importorskip("playwright.sync_api", reason="pip install '.[browser]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install '.[browser]'")
pytest.importorskip("starlette", reason="pip install '.[app]'")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: the page can't be opened")
LONG = [letter * 150 for letter in "abcd"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Addresses by name."""
    place = tmp_path_factory.mktemp("seen")
    pictures, folder = place / "pictures", place / "model"
    for i, record in enumerate(BIRDS.records):
        of_class = pictures / record.split / LONG[record.label]
        of_class.mkdir(parents=True, exist_ok=True)
        BIRDS.image(i).save(of_class / f"{i}.png")
    picture = next((pictures / "test" / LONG[0]).iterdir())
    for number, settings in enumerate(({"lift": "identity"}, {"regions": "tiles:2"})):
        model = Carrot("toy", **settings).fit(pictures, tokens=folder / "tokens")  # type: ignore[arg-type]
        model.explain(picture).to_html(place / f"{number}.html")
    model.explain(picture, LONG[0], LONG[1]).to_html(place / "lead.html")
    model.save(folder)
    assert main(["explain", str(folder), str(pictures), "--pages", "1", "--out", str(place / "index")]) == 0
    assert main(["evaluate", str(folder), "--explained", "1", "--refits", "0"]) == 0
    assert main(["report", str(folder), "--out", str(place / "report.html")]) == 0
    files = {"patches": "0.html", "tiles": "1.html", "lead": "lead.html", "index": "index/index.html"}
    found = {name: (place / file).as_uri() for name, file in (files | {"report": "report.html"}).items()}
    from tests.served import served  # not before it is known that there is a server

    with served(folder) as address:
        yield found | {"gallery": address, "desk": f"{address}/desk", "upload": f"{address}/upload"}


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("name", ["patches", "tiles", "lead", "index", "report", "gallery", "desk", "upload"])
def test_axe_finds_nothing_and_all_of_it_fits(
    browser: Any, pages: dict[str, str], name: str, scheme: str, width: int
) -> None:
    view = {"width": width, "height": 900}
    page = browser.new_page(viewport=view, color_scheme=scheme, bypass_csp=True)  # axe brings a style of its own
    page.goto(pages[name])
    if name == "desk":
        page.locator("#case table, #where:has-text('Nothing')").first.wait_for()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for act in (None, ".acts > button"):
        if act is None or page.locator(act).count():
            if act:
                page.locator(act).first.click()
            found = axe.Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    if name == "report":
        cut = "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth)"
        assert page.evaluate(f"{cut}.map((one) => one.innerText)") == [], (
            "tables that end outside of the screen, where nobody looks for more"
        )
    page.close()
