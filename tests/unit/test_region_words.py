"""Every kind of region has its own words, the same wherever a person reads of it: text, page, JSON, figure, command."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from carrot import Carrot, cli
from carrot._choices import MANY
from carrot.data.records import Subset
from carrot.data.toy import ToyBirds
from carrot.explanation.terms import terms

BIRDS = ToyBirds(3, 1, 3)
TRAIN = Subset(BIRDS, [i for i, record in enumerate(BIRDS.records) if record.split == "train"])
TEST = BIRDS.image(next(i for i, record in enumerate(BIRDS.records) if record.split == "test"))
BOXES = "boxes:0.0,0.0,0.5,1.0;0.25,0.25,1.0,1.0"
KINDS: dict[str, tuple[str, dict[str, Any], dict[int, str]]] = {  # kind, settings, names by number
    "patches": ("patch", {"tau": 0.0}, {0: "patch 0 (row 0, column 0)", 23: "patch 23 (row 2, column 3)"}),
    "blocks": ("block", {"coarsen": 5, "t": 0.5}, {3: "block 3 (row 1, column 1)"}),
    "patches and a share": ("patch", {"global_share": 0.2}, {100: "region 100 (the whole picture)"}),
    "tiles": ("tile", {"regions": "tiles:2"}, {2: "tile 2 (row 1, column 0 of 2 x 2)"}),
    "tiles, diffused": ("tile", {"regions": "tiles:2", "t": 1.0}, {1: "tile 1 (row 0, column 1 of 2 x 2)"}),
    "ladder with the whole": (
        "tile",
        {"regions": "tiles:1,2,2@0", "global_share": 0.2},
        {
            0: "tile 0 (the whole picture)",
            5: "tile 5 (row 0, column 0 of 2 x 2 at overlap 0)",
            9: "region 9 (the whole picture)",
        },
    ),
    "one tile": ("tile", {"regions": "tiles:1"}, {0: "tile 0 (the whole picture)"}),
    "boxes": ("box", {"regions": BOXES}, {0: "box 0", 1: "box 1"}),
    "boxes and a share": ("box", {"regions": BOXES, "global_share": 0.2}, {2: "region 2 (the whole picture)"}),
}
OF_TOKENS = r"[Tt]okens?|[Ss]quares?|[Pp]atch(?:es)?"
OTHERS = {  # words that would be wrong of a kind
    "patch": r"\b(?:[Tt]iles?|[Bb]ox(?:es)?|[Bb]locks?)\b",
    "block": r"\b(?:[Tt]iles?|[Bb]ox(?:es)?)\b",
    "tile": rf"\b(?:{OF_TOKENS}|[Bb]ox(?:es)?|[Bb]locks?)\b",
    "box": rf"\b(?:{OF_TOKENS}|[Tt]iles?|[Bb]locks?)\b",
}


@pytest.mark.parametrize("case", KINDS)
def test_regions_are_called_what_they_are_everywhere(case: str) -> None:
    kind, settings, named = KINDS[case]
    model = Carrot("toy", lift="identity", lam=0.01, **settings).fit(TRAIN)
    e, hidden = model.explain(TEST, k=2), model.hidden_regions(TEST, k=40)
    names = [e.region_name(i) for i in range(len(e.parts.token))]
    assert {i: names[i] for i in named} == named
    assert len(set(names)) == len(names)

    for one in hidden.top:
        assert one.name == names[one.region]
        assert f"{one.name} of {one.training_id}" in str(hidden)
    for i in named:
        assert f"its {names[i]} dropped" in str(model.what_if(TEST, regions=[i]))
    told = json.loads(e.to_json())
    assert [region["name"] for region in told["regions"]] == names
    text, page = f"{e}\n{e.proof()}", shown(e.to_html())
    local = len(e.picture.boxes)
    most = names[int(e.drops[:local].abs().argmax())]
    assert f"{kind} that matters most: {most};" in text
    best = int(e.regions.argmax())
    first = called(names[best], case) if best < local else "the whole picture"
    assert re.search(r"The model says .*(?: because of |, most of all )(?:[^.]*, marked 1|the whole picture)\.", page)
    assert re.search(rf"What speaks for it 1 [^.]*{re.escape(first.replace(' x ', ' × '))}", page)
    pair = e.pairs(1)[0]
    assert f"{names[pair.region]} because of {names[pair.training_region]} of {pair.training_id}" in text
    for name in names:
        assert f"{name} " in page, "all are in the table"
    for way in (f"what each {kind} brings", f"what each {kind} holds after sharing"):
        assert f"sum over {way} " in text
        assert f"Sum over {way} " in page
    assert re.search(rf"[Aa]ll {MANY[kind]} as numbers", page)
    assert f"All {MANY[kind]} as a list" in page
    if case in ("patches", "tiles", "boxes"):
        assert f"what each {kind} brings" in "".join(axis.get_title() for axis in e.plot(maps=True).axes)

    for words in (text, page, told["exact"], str(hidden), e.level.line):
        wrong = re.findall(rf".{{0,30}}(?:{OTHERS[kind]}).{{0,30}}", without_terms(words))
        assert not wrong, wrong


def called(name: str, case: str) -> str:
    """Return a name as prose has it: counting rows from 0 is for lists."""
    grid = " (of {})" if case == "ladder with the whole" else " of {}"
    return re.sub(
        r" \(row \d+, column \d+(?: of ([^)]*))?\)", lambda found: grid.format(found[1]) if found[1] else "", name
    )


def without_terms(words: str) -> str:
    """The two levels are terms, and settings are named as they are given."""
    return re.sub(r"(token|tile) level|tiles:[\d,@]+|boxes:[-\d.,;]+", "", words)


def shown(page: str) -> str:
    """What a reader of a page sees, and hears of its pictures."""
    spoken = " ".join(re.findall(r'aria-label="([^"]*)"', page))
    body = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body) + spoken).split()).replace(" :", ":")


@pytest.mark.parametrize(("regions", "words"), [("tiles:2", "The other tile"), ("tiles:3", "All 6 other tiles")])
def test_those_beside_the_numbered_ones_are_counted(regions: str, words: str) -> None:
    e = Carrot("toy", regions=regions, lift="identity", device="cpu").fit(TRAIN).explain(TEST)
    assert words in [term.told for term in terms(e)[0]]


def test_the_command_names_them_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Carrot("toy", regions="tiles:1,2", lift="identity", device="cpu").fit(TRAIN)
    model.save(tmp_path / "m")
    TEST.save(tmp_path / "x.png")
    words = ["explain", str(tmp_path / "m"), str(tmp_path / "x.png"), "--shapley", "--interactions", "--hidden"]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    names = ["tile 0 (the whole picture)", *(f"tile {1 + i} (row {i // 2}, column {i % 2} of 2 x 2)" for i in range(4))]
    for name in names:
        assert re.search(rf"^    {re.escape(name)} +[-+]\d", told, re.MULTILINE), "a Shapley value of each"
    of_pairs = told[told.index("pairs of regions that need") :]
    assert len(re.findall(r"^    tile \d \([^)]*\) and tile \d \([^)]*\): [-+]", of_pairs, re.MULTILINE)) == 5
    assert cli.main(["what-if", *words[1:3], "--region", "1,1@2"]) == 0
    assert f"with its {names[4]} dropped" in capsys.readouterr().out
    assert cli.main(["info", str(tmp_path / "m")]) == 0
    assert capsys.readouterr().out.startswith("regions: 5 tiles, each seen alone")
    boxes = Carrot("toy", regions=BOXES).setting_
    assert boxes.regions_in_words().startswith("2 boxes, each seen alone")
    assert (
        Carrot("toy", regions="tiles:1").setting_.regions_in_words(96) == "one tile, seen alone, at 96 pixels (tiles:1)"
    )
