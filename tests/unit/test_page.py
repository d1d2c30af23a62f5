"""The page: well-formed, self-contained, no data taken for markup, all numbers there and adding up, readable by ear."""

import base64
import hashlib
import io
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from carrot.explanation import Explanation, Picture
from carrot.explanation.drawing import Sheet, marks, short
from carrot.explanation.parts import is_unmixed, separate_pairs
from carrot.explanation.words import added_up, percent, supporters, where
from tests.unit.test_explanation import HOSTILE, VARIANTS, bare, explanation

VOID = {"meta", "br", "input"}


class Page(HTMLParser):
    """Reads a page and keeps what tests ask for; refuses tags that don't match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.rows: dict[str, list[list[float]]] = defaultdict(list)  # numbers of each row, by table id
        self.told: dict[str, list[str]] = defaultdict(list)  # the same, as shown, of one a row
        self.table = ""
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        a = {key: value or "" for key, value in attrs}
        assert len(a) == len(attrs), "an attribute comes twice"
        self.tags.append((tag, a))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.table = a.get("id", "")
        if tag == "tr":
            self.rows[self.table].append([])
        if tag == "data" and "tr" in self.open:
            self.rows[self.table][-1].append(float(a["value"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)
        if "data" in self.open and "tr" in self.open:
            self.told[self.table].append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [a for t, a in self.tags if t == tag]


@pytest.fixture(params=list(VARIANTS))
def case(request: pytest.FixtureRequest) -> tuple[Explanation, str, Page]:
    e = VARIANTS[request.param]
    text = e.to_html()
    return e, text, Page(text)


def test_it_asks_for_nothing_from_outside(case: tuple[Explanation, str, Page]) -> None:
    _, text, page = case
    check_closed(text, page)
    assert not page.all("script"), "numbers alone can't be computed with"


def check_closed(text: str, page: Page) -> None:
    """Refuse a page that could load anything, or run what it doesn't name."""
    for tag, a in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "a", "audio", "video"}
        assert not [key for key in a if key.startswith("on")]
        for key in ("href", "src", "srcset", "xlink:href", "action", "poster"):
            if key in a:
                assert a[key].startswith(("#", "data:image/jpeg;base64,"))
        assert "url(" not in a.get("style", "")
        assert all(a[key].startswith("url(#") for key in ("filter", "mask") if key in a)
    style = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"url\(|@import|//", style)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    scripts = [
        f" script-src 'sha256-{digest(code)}';" for code in re.findall("<script>(.*?)</script>", text, re.DOTALL)
    ]
    assert policy == f"default-src 'none';{''.join(scripts)} img-src data:; style-src 'unsafe-inline'"


def digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def test_ids_are_unique_and_every_use_has_one(case: tuple[Explanation, str, Page]) -> None:
    _, _, page = case
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"] for a in page.all("use")} <= {f"#{i}" for i in ids}


def test_it_can_be_read_by_ear(case: tuple[Explanation, str, Page]) -> None:
    _, _, page = case
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    for a in page.all("svg"):
        assert a.get("aria-label", "").strip() if a.get("role") == "img" else a["aria-hidden"] == "true"
    assert len(page.all("title")) >= 1
    assert all(a.get("scope") in {"row", "col"} for a in page.all("th"))


def test_numbers_of_regions_are_all_there_and_add_up(case: tuple[Explanation, str, Page]) -> None:
    e, _, page = case
    p = e.parts
    table = torch.tensor(page.rows["region-numbers"][1:], dtype=torch.float64)
    columns = [p.token, p.drop] if is_unmixed(p) else [p.token, p.node, p.drop]
    assert torch.equal(table, torch.stack(columns, dim=1))


def test_what_speaks_for_the_answer_comes_first_and_adds_up_as_shown(case: tuple[Explanation, str, Page]) -> None:
    e, _, page = case
    p = e.parts
    *terms, (total,) = page.rows["supporters"]
    values, best = [x for (x,) in terms], supporters(e, 3)
    assert sum(values) == pytest.approx(total, abs=1e-12)
    assert total == p.logit
    assert values[: len(best)] == [float(p.token[i]) for i in best] == sorted(p.token[p.token > 0].tolist())[::-1][:3]
    *shown, whole = page.told["supporters"]
    assert sum(map(Fraction, shown)) == Fraction(whole)
    units = 10.0 ** -len(whole.split(".")[1])
    assert all(abs(float(x) - value) < units for x, value in zip(shown, values, strict=True))


def test_a_region_that_argues_against_the_answer_never_comes_first() -> None:
    e = explanation()
    token = torch.full_like(e.parts.token, -0.01)
    token[0] = -30.0  # the largest by far
    token[5] = 0.02
    p = replace(e.parts, token=token)
    page = Page(replace(e, parts=replace(p, prior=p.logit - float(token.sum()))).to_html())
    assert "mostly because of the left side, marked 1" in page.text
    assert page.rows["supporters"][0] == [0.02]
    many = Page(replace(e, parts=replace(p, token=torch.full_like(token, 0.01))).to_html())
    assert "because of many patches together, most of all the upper left, marked 1" in many.text
    none = Page(replace(e, parts=replace(e.parts, token=token - 1.0)).to_html())
    assert "though no part of the picture speaks for it" in none.text


def test_training_pictures_add_up(case: tuple[Explanation, str, Page]) -> None:
    e, _, page = case
    p = e.parts
    rows = page.rows["training-sum"][1:]
    start = rows.pop(0) if p.prior else [0.0]
    shown, others, total = rows
    assert start == [p.prior]
    assert total == [p.logit] * 2
    assert shown[0] + others[0] + p.prior == pytest.approx(p.logit, abs=1e-12)
    assert shown[1] + others[1] == pytest.approx(p.logit, abs=1e-12)
    values = {float(a["value"]) for a in page.all("data")}
    assert page.rows["training-numbers"][1:] == [[x.dual, x.label_part, x.removal] for x in e.training]
    for part in e.training:
        assert part.removal in values
        assert part.label.split() == [w for w in part.label.split() if w in page.text]


def test_a_card_has_one_number_and_doubt() -> None:
    e = explanation()
    doubted = replace(e, doubtful={e.shown[1]: "class <6>", e.shown[0] + 99: "class 5"})
    first, second, third = re.findall(r'<li class="card".*?</li>', doubted.to_html(), re.DOTALL)
    for card, part in zip((first, second, third), e.training, strict=True):
        assert [float(x) for x in re.findall(r'<data value="([^"]*)"', card)] == [part.removal]
        words = Page(card).text
        assert f"Without it the score {'falls' if part.removal > 0 else 'rises'} by {abs(part.removal):.3f} ." in words
    assert "Doubtful label: fitted without this picture, the model says class <6> ." in Page(second).text
    assert "Doubtful" not in first + third


def test_pairs_that_explain_little_are_not_drawn() -> None:
    e = explanation()
    assert '<section class="long" id="pairs">' in e.to_html()
    i = e.shown[0]
    flat = torch.full((100, 100), float(e.parts.dual[i]) / 10_000, dtype=torch.float64)
    text = replace(e, pair_maps={i: flat}).to_html()
    assert 'id="pairs"' not in text
    assert "with no training picture do the 3 strongest carry a fifth of what all pairs explain" in Page(text).text
    for share, is_drawn in ((0.19, False), (0.21, True)):  # of three pairs, beside 97 that are alike
        pairs = torch.full((10, 10), (1.0 - share) / 97, dtype=torch.float64)
        pairs[[0, 1, 2], [0, 1, 2]] = share / 3
        assert ('id="pairs"' in replace(e, pair_maps={i: pairs}).to_html()) == is_drawn
    for told in re.findall(r"<div class=.pair.>.*?</p></div>", e.to_html(), re.DOTALL):
        shown = [Fraction(x) for x in re.findall(r">([-+][\d.]+)</data>", told)]
        assert sum(shown[:-1]) == shown[-1]


def test_residuals_are_those_of_the_explanation(case: tuple[Explanation, str, Page]) -> None:
    e, _, page = case
    rows = page.rows["residuals"][1:]
    assert [row[2] for row in rows] == list(e.residual.values())
    assert all(total - must_be == residual for total, must_be, residual in rows)


def test_every_region_is_drawn_on_its_maps_with_its_number(case: tuple[Explanation, str, Page]) -> None:
    e, text, page = case
    tips = re.findall(r'fill="(#\w+)" fill-opacity="([\d.]+)"><title>patch (\d+) \([^)]*\): ([-+.e\d]+)</title>', text)
    local = len(e.picture.boxes)
    p = e.parts
    maps = [x[:local] for x in ((p.token, p.drop) if is_unmixed(p) else (p.token, p.node, p.drop))]
    assert len(tips) == len(maps) * local
    values, limits = torch.cat(maps), torch.cat([x.abs().max().expand(local) for x in maps])
    for k, (colour, opacity, region, told) in enumerate(tips):
        assert int(region) == k % local
        assert float(told) == pytest.approx(float(values[k]), rel=1e-5)
        assert colour == ("#b2182b" if values[k] > 0 else "#2166ac")
        most = 0.55 if k < local else 0.85  # on the picture in colour, or in grey
        assert float(opacity) == pytest.approx(most * abs(float(values[k])) / float(limits[k]), abs=6e-4)
    scale = {float(a["value"]) for a in page.all("data")}
    assert {float(x) for x in limits} | {-float(x) for x in limits} <= scale


def test_pictures_are_embedded_once_and_small(case: tuple[Explanation, str, Page]) -> None:
    e, _, page = case
    found = [Image.open(io.BytesIO(base64.b64decode(a["href"].split(",")[1]))) for a in page.all("image")]
    assert len(found) == 1 + len(e.shown_pictures)
    assert found[0].size == e.picture.image.size
    assert {image.format for image in found} == {"JPEG"}


def test_nothing_of_the_data_is_markup() -> None:
    text = explanation(hostile=HOSTILE, against=4).to_html()
    page = Page(text)
    assert HOSTILE in page.text
    assert "<script" not in text  # the name's own; this page has none
    plain = Page(explanation(against=4).to_html())
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [set(a) - {"title"} for _, a in page.tags] == [set(a) - {"title"} for _, a in plain.tags]
    odd = replace(explanation(), facts={"<b>": "</dd>", "x": {"<i>": "$title \x00"}}).to_html()
    assert "<b>" not in odd
    assert "<i>" not in odd
    assert "\x00" not in odd
    assert "$title" in odd


def test_large_and_long_pictures_are_made_smaller() -> None:
    e = explanation()
    for size, expected in (((1600, 800), (400, 200)), ((30, 3000), (6, 600)), ((3000, 2), (400, 1))):
        text = replace(e, picture=replace(e.picture, image=Image.new("RGB", size))).to_html()
        uri = Page(text).all("image")[0]["href"]
        assert Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size == expected
        assert f'viewBox="0 0 {size[0]} {size[1]}"' in text


def test_the_page_opens_with_the_answer() -> None:
    def opening(name: str) -> str:
        return re.search("<h1.*?</h1>", VARIANTS[name].to_html(), re.DOTALL)[0]  # type: ignore[index]

    assert re.match(r'<h1 id="sentence">The model says <em><bdi>class 1</bdi></em> \(<data', opening("plain"))
    assert "because of the " in Page(opening("plain")).text
    assert re.search(r"For class 2 \( .* % \) speaks most of all", Page(opening("not predicted")).text)
    both = r"For class 1 and not class 4 speaks most of all [^;]+, marked 1; for class 4 , [^;]+, marked 4\."
    assert re.search(both, Page(opening("contrast")).text)
    assert re.search(r"For class 4 \( .* % \) and not class 1 speaks", Page(opening("behind")).text)
    assert "blue for class 4" in Page(VARIANTS["contrast"].to_html()).text
    assert "blue against it" in Page(VARIANTS["plain"].to_html()).text


def test_a_label_is_held_against_what_is_said() -> None:
    e = explanation()
    for label, word in (("class 1", "they agree"), ("class 3", "they differ")):
        assert word in Page(replace(e, picture=replace(e.picture, label=label)).to_html()).text
    assert "they agree" not in Page(e.to_html()).text


def test_what_is_gone_is_said() -> None:
    gone = bare(explanation())
    assert Page(gone.to_html()).text.count("Not shown: it is not at hand.") == len(gone.shown)
    told = replace(gone, missing=dict(zip(gone.shown, ("it <moved>", "it has changed"), strict=False)))
    text = Page(told.to_html()).text
    assert "Not shown: it <moved>." in text
    assert "Not shown: it has changed." in text


def test_regions_in_the_padding_are_counted_and_not_drawn() -> None:
    e = explanation()
    boxes = e.picture.boxes.clone()
    boxes[:4, 3] = boxes[:4, 1]  # the first row has no height
    text = replace(e, picture=replace(e.picture, boxes=boxes)).to_html()
    assert "4 patches lie in the padding" in Page(text).text
    assert len(re.findall("<title>patch", text)) == 3 * 8


def test_maps_that_are_one_are_shown_once() -> None:
    e = explanation()
    assert Page(e.to_html()).text.count("differs from what it brings") == 1
    p = replace(e.parts, node=e.parts.token.clone())
    text = Page(replace(e, parts=p).to_html()).text
    assert "What each holds after sharing" not in text
    assert "What is missing without it" in text
    text = Page(replace(e, parts=replace(p, drop=e.parts.token.clone())).to_html()).text
    assert "What is missing without it" not in text
    assert "there is only one map" in text


def test_maps_of_zeros_are_drawn() -> None:
    e = explanation(prior=0.0)
    zeros = {name: torch.zeros_like(getattr(e.parts, name)) for name in ("token", "node", "drop")}
    text = replace(e, parts=replace(e.parts, **zeros)).to_html()
    assert "no part of the picture speaks for it" in Page(text).text
    assert set(re.findall(r'fill-opacity="([^"]*)"><title>', text)) == {"0.000"}


def test_it_is_told_where_the_colour_is_not_all_that_was_seen() -> None:
    one = VARIANTS["one region"]
    two = torch.tensor([[0.0, 0.0, 60.0, 60.0], [30.0, 0.0, 90.0, 60.0]], dtype=torch.float64)
    p = replace(one.parts, **{name: one.parts.token.new_tensor([0.1, 0.2]) for name in ("token", "node", "drop")})
    tiles = Picture(one.picture.id, one.picture.image, two, None, None, ("left", "right"), "tile", two / 2)
    e = replace(one, parts=replace(p, prior=p.logit - 0.3), picture=tiles, pair_maps={})
    assert "Each tile is coloured at its middle; its frame shows all that it saw." in Page(e.to_html()).text
    assert "coloured at its middle" not in Page(replace(e, picture=replace(tiles, drawn=two)).to_html()).text
    boxes = replace(tiles, kind="box", drawn=None)
    assert "Where boxes overlap, the map adds up what they bring." in Page(replace(e, picture=boxes).to_html()).text
    apart = replace(
        boxes, boxes=two * torch.tensor([0.5, 1.0, 0.5, 1.0]) + torch.tensor([[0.0, 0, 0, 0], [30, 0, 30, 0]])
    )
    assert "overlap" not in Page(replace(e, picture=apart).to_html()).text.split("What speaks for it")[0]


def test_what_the_model_never_saw_is_drawn_and_told() -> None:
    e = explanation()
    assert 'class="veil"' not in e.to_html()
    cropped = e.picture.boxes.clone()
    cropped[:, [0, 2]] = 15.0 + cropped[:, [0, 2]] * (60 / 90)  # 15 pixels of 90 on each side
    text = replace(e, picture=replace(e.picture, boxes=cropped)).to_html()
    assert text.count('class="veil"') == 1
    assert "The model never saw the dimmed parts: 33 % of the picture" in Page(text).text


def test_pairs_use_each_region_once() -> None:
    found = torch.tensor([[9.0, 8.0, 1.0], [7.0, 6.0, 5.0], [2.0, 3.0, -1.0]], dtype=torch.float64)
    assert separate_pairs(found, 4) == [(0, 0, 9.0), (1, 1, 6.0)]  # (2, 2) would take away
    assert separate_pairs(-found, 2) == [(2, 2, 1.0)]
    assert float(found.sum()) == 40.0  # it is left as it was


def test_marks_keep_clear_of_each_other() -> None:
    boxes = torch.tensor([[10.0 * c, 40.0, 10.0 * c + 10, 50.0] for c in range(10)])
    drawn = marks(Sheet("x", (100, 100), boxes), [3, 4, 5, 99])
    assert drawn.count("<text") == 3  # 99 stands for the whole picture
    found = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', drawn)
    centres = [tuple(map(float, c)) for c in found]
    for k, (x, y, r) in enumerate(centres):
        assert min(x, y) - r >= 0
        assert max(x, y) + r <= 100
        for u, v, s in centres[:k]:
            assert max(abs(x - u), abs(y - v)) >= r + s - 1e-6


def test_no_probability_is_rounded_to_certainty() -> None:
    def shown(digits: int) -> list[str]:
        return [Page(percent(p, digits)).text for p in (0.0, 1e-5, 0.1234, 0.9996, 1.0)]

    assert shown(1) == ["0.0 %", "< 0.1 %", "12.3 %", "> 99.9 %", "100.0 %"]
    assert shown(0) == ["0 %", "< 1 %", "12 %", "> 99 %", "100 %"]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9), st.integers(3, 6))
def test_terms_add_up_as_they_are_shown(values: list[float], digits: int) -> None:
    total, unit = sum(values), Fraction(1, 10**digits)
    shown = [Fraction(re.sub("<[^>]*>", "", x)) for x in added_up(values, total, digits)]
    assert sum(shown) == Fraction(math.floor(total * 10**digits + 0.5), 10**digits)
    assert all(abs(x - Fraction(value)) < unit * Fraction(1.000001) for x, value in zip(shown, values, strict=True))


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((0, 0, 30, 20), "the upper left, patch 0"),
        ((60, 0, 90, 20), "the upper right, patch 0"),
        ((30, 20, 60, 40), "the middle, patch 0"),
        ((30, 40, 60, 60), "the bottom, patch 0"),
        ((0, 0, 90, 60), "patch 0"),
        ((5, 5, 5, 9), "the padding, patch 0"),
    ],
)
def test_places_are_told_in_plain_words(box: tuple[float, ...], told: str) -> None:
    one = VARIANTS["one region"].picture
    assert where(replace(one, boxes=torch.tensor([box], dtype=torch.float64)), 0) == told
    assert where(one, 1) == "the whole picture"


def test_long_paths_are_cut_at_the_front() -> None:
    whole = "/a/very/long/folder/of/somebody/with/many/birds/robin/17.jpg"
    cut = re.sub("<[^>]*>", "", short(whole))
    assert cut.startswith("&hellip;/")
    assert cut.endswith("/robin/17.jpg")
    assert len(cut) <= 48 + len("&hellip;/")
    assert f'title="{whole}"' in short(whole)
    assert short("x" * 99) == f"<bdi>{'x' * 99}</bdi>"
    assert "title" not in short("a/b.jpg")


def test_a_few_outliers_leave_the_others_their_colours() -> None:
    e = explanation((8, 8))
    drop = e.parts.drop.clone() / e.parts.drop.abs().max()
    drop[0] = -30.0
    told = replace(e, parts=replace(e.parts, drop=drop))
    text = told.to_html()
    usual = float(drop.abs().quantile(0.975))
    assert usual < 1.0
    assert Page(text).text.count("and beyond") == 2, "of one map, at both ends"
    tips = re.findall(r'fill-opacity="([\d.]+)"><title>patch (\d+) \([^)]*\): ([-+.e\d]+)</title>', text)[-64:]
    for opacity, region, number in tips:
        assert float(number) == pytest.approx(float(drop[int(region)]), rel=1e-5)
        assert float(opacity) == pytest.approx(0.85 * min(abs(float(number)) / usual, 1.0), abs=6e-4)
    assert "and beyond" not in explanation((8, 8)).to_html()


@pytest.mark.parametrize(("fall", "is_told"), [(0.05, True), (-0.3, True), (0.25, False), (1.0, False)])
def test_a_first_reason_that_could_be_spared_is_told(fall: float, is_told: bool) -> None:
    e = VARIANTS["one region"]
    token = e.parts.token.abs() + 1.0
    e = replace(e, parts=replace(e.parts, token=token, drop=fall * token))
    assert (
        "would hardly be missed: the others take over its weight." in e.to_html().partition("<script")[0]
    ) == is_told
    assert ("; hidden alone, the first would hardly be missed" in str(e)) == is_told
