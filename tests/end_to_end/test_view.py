"""The page in a real browser: what scripts say is what it said without them, and in any state what the package says."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from carrot import Carrot
from carrot.data.toy import ToyBirds
from carrot.explanation import Explanation
from tests.unit.test_page import Page, check_closed

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: the page can't be opened")
BIRDS = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=4)
PICTURE = BIRDS.image(len(BIRDS.records) - 1)
CLOSE = {"abs": 1e-6}  # of what fitting again answers: the page's table has lost some digits of that
SETTINGS: dict[str, dict[str, Any]] = {
    "tiles": {"regions": "tiles:2,3"},
    "a sum": {"regions": "tiles:3", "readout": "sum", "global_share": 0.2},
    "patches": {"lift": "identity", "t": 1.0},
}


@pytest.fixture(scope="module", params=list(SETTINGS))
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Carrot, Explanation, Path]:
    model = Carrot("toy", **SETTINGS[request.param]).fit(BIRDS)
    e = model.explain(PICTURE)
    if request.param == "a sum":
        e = model.explain(PICTURE, against=next(one for one in e.classes if one != e.target))
    path = tmp_path_factory.mktemp("page") / "page.html"
    e.to_html(path)
    return model, e, path


def dom(path: Path, state: str = "") -> str:
    """Return a page as a browser has it, scripts run; refuse any word on its console."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    run = subprocess.run(
        [*command, f"{path.as_uri()}#{state}"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "CONSOLE" not in run.stderr, run.stderr
    assert 'class="is-live"' in run.stdout, "the policy lets its script run"
    return run.stdout


def told(text: str, pattern: str) -> list[str]:
    """Return what is said in each part of a page that a pattern finds, with no space beside a number."""
    return [re.sub(r"(?<=[(>]) | (?=[).,])", "", Page(found).text) for found in re.findall(pattern, text, re.DOTALL)]


def test_scripts_say_what_the_page_said_without_them(opened: tuple[Carrot, Explanation, Path]) -> None:
    _, e, path = opened
    still = path.read_text("utf-8")
    check_closed(still, Page(still))
    live = dom(path)
    for pattern in (
        "<h1.*?</h1>",
        '<p class="small soft" id="spared">.*?</p>',
        '<h2 id="because">.*?</h2>',
        '<p class="without">.*?</p>',
        '<span id="legend-of">.*?</span>',
        '<div class="ends">.*?</div>',
    ):
        assert told(live, pattern)[: 1 + len(e.shown)] == told(still, pattern)[: 1 + len(e.shown)]
    was, now = Page(still), Page(live)
    for table in ("supporters", "classes"):
        assert now.told[table] == was.told[table]
        for row, other in zip(now.rows[table], was.rows[table], strict=True):
            assert row == pytest.approx(other, abs=1e-9)
    fills = r'fill="(#\w+)" fill-opacity="([\d.e-]+)"><title>'
    for (colour, opacity), (other, must_be) in zip(*(re.findall(fills, text) for text in (live, still)), strict=True):
        assert colour == other
        assert float(opacity) == pytest.approx(float(must_be), abs=1e-3)


def test_a_state_in_the_link_is_what_the_package_answers(opened: tuple[Carrot, Explanation, Path]) -> None:
    model, e, path = opened
    assert e.counterfactuals is not None
    first, second, third = (e.training_ids[i] for i in e.counterfactuals.rows[:3])
    label = (e.classes.index(e.training_labels[e.counterfactuals.rows[2]]) + 1) % len(e.classes)
    other = (e.parts.target + 1) % len(e.classes)
    page = Page(text := dom(path, f"c={other}&a={e.parts.target}&x=1.3&o=0.1&l=2-{label}"))
    supposed = model.what_if(PICTURE, without=[first, second], relabel={third: e.classes[label]}, regions=[1, 3])
    logits = dict(zip(e.classes, supposed.logits.tolist(), strict=True))
    *terms, (total,) = page.rows["supporters"]
    assert total == pytest.approx(logits[e.classes[other]] - logits[e.target], **CLOSE)
    assert sum(x for (x,) in terms) == pytest.approx(total, abs=1e-9)
    assert sorted(score for score, _ in page.rows["classes"][1:]) == pytest.approx(sorted(logits.values()), **CLOSE)
    (sentence,) = told(text, "<h1.*?</h1>")
    assert sentence.startswith(f"Without 2 of {len(e.parts.token)} ")
    assert f"without 2 training pictures and with {third} labelled {e.classes[label]}, the model says" in sentence
    lead = rf"{e.classes[other]} (\(.*? %\) )?and not {e.target} ?"
    sides = rf"(For {lead}speaks most of all .*?|No part of the picture speaks for {lead}); for {e.target}, .*?\.$"
    assert re.search(sides, sentence)
    assert told(text, '<h2 id="because">.*?</h2>') == [f"What speaks for {e.classes[other]}, and for {e.target}"]
    assert told(text, '<p id="as-it-was".*?</p>') == [
        "What follows is the answer as it was, before what you supposed above."
    ]
    assert text.count('aria-pressed="true"') >= 4, "tiles and their buttons"


def test_a_model_that_cannot_be_fitted_is_refused(opened: tuple[Carrot, Explanation, Path]) -> None:
    _, e, path = opened
    assert e.counterfactuals is not None
    places = [k for k, i in enumerate(e.counterfactuals.rows) if e.training_labels[i] == e.target]
    assert len(places) == 3
    text = dom(path, "o=" + ".".join(map(str, places)))
    assert told(text, '<p id="before".*?</p>') == [
        f"No training picture of {e.target} would be left. Such a model can't be fitted: undo it."
    ]


def test_a_model_that_cannot_be_fitted_says_nothing_whatever_it_is_asked(
    opened: tuple[Carrot, Explanation, Path],
) -> None:
    """Not what it said last, of another class."""
    _, e, path = opened
    assert e.counterfactuals is not None
    places = [k for k, i in enumerate(e.counterfactuals.rows) if e.training_labels[i] == e.target]
    other = next(c for c, name in enumerate(e.classes) if name not in (e.target, e.against))
    page = Page(text := dom(path, f"c={other}&o=" + ".".join(map(str, places))))
    assert told(text, "<h1.*?</h1>") == ["There is no answer."]
    assert page.rows["supporters"] == []
    assert page.rows["classes"] == [[]], "its head"
    assert {told for told in told(text, '<p class="without">.*?</p>')} <= {"", "Left out."}
    drawn = text[text.index('<g class="map">') : text.index("</svg>", text.index('<g class="map">'))]
    assert set(re.findall(r'fill-opacity="([^"]*)"><title>', drawn)) == {"0"}


def test_a_picture_that_is_left_out_has_no_label_and_no_tiles(opened: tuple[Carrot, Explanation, Path]) -> None:
    _, e, path = opened
    assert e.counterfactuals is not None
    first = e.counterfactuals.rows[0]
    label = (e.classes.index(e.training_labels[first]) + 1) % len(e.classes)
    state = "o=0" + (f"&l=0-{label}&h=0-1" if e.counterfactuals.traces else f"&l=0-{label}")
    (sentence,) = told(dom(path, state), "<h1.*?</h1>")
    assert sentence.startswith(f"Without training picture {e.training_ids[first]}, the model says ")


def test_names_of_the_data_stay_text(tmp_path: Path) -> None:
    """A class that ends the script, and one that would begin another."""
    names = ["</script><script>alert(1)</script>", "<!--<script>", "]]>&lt;\u2028'\""]
    birds = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=3)
    labels = [names[r.label] for r in birds.records if r.split == "train"]
    train = [birds.image(i) for i, r in enumerate(birds.records) if r.split == "train"]
    e = Carrot("toy", regions="tiles:2").fit(train, labels).explain(train[0], label=names[1])
    e.to_html(tmp_path / "page.html")
    text = dom(tmp_path / "page.html", "x=1&l=0-1")
    assert len(re.findall("<script", text.split("CARROT.load")[0])) <= 3
    assert e.target in told(text, "<h1.*?</h1>")[0]


def test_the_only_picture_of_a_class_is_told_alike_with_and_without_scripts(tmp_path: Path) -> None:
    birds = ToyBirds(n_train_per_class=1, n_test_per_class=1, n_species=4)
    e, path = Carrot("toy", regions="tiles:2", lam=1.0).fit(birds).explain(PICTURE), tmp_path / "page.html"
    e.to_html(path)
    says = "Without it, no picture of its class would be left."
    assert path.read_text("utf-8").count(says) == 4 + 1, "on each card, and once in the script"
    assert dom(path).count(says) == 4 + 1
