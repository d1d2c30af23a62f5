"""What a user gets of an explanation: pairs, text, figure, JSON, whole and exact whatever the pictures and names."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from carrot import Carrot
from carrot._display.html import plain
from carrot.data.toy import ToyBirds
from carrot.errors import StoreError
from carrot.explanation import Explanation, Picture
from carrot.explanation.parts import LogitParts
from carrot.explanation.view import View
from carrot.explanation.words import where

HOSTILE = "<script>alert('1')</script> & \"Müller's\" $x_1$ 鳥"


def picture(name: str, grid_hw: tuple[int, int], seed: int, size: tuple[int, int] = (90, 60)) -> Picture:
    """A picture of noise; its regions tile it."""
    gh, gw = grid_hw
    w, h = size
    noise = np.random.default_rng(seed).integers(0, 255, (h, w, 3), dtype=np.uint8)
    x, y = np.linspace(0, w, gw + 1), np.linspace(0, h, gh + 1)
    boxes = [[x[c], y[r], x[c + 1], y[r + 1]] for r in range(gh) for c in range(gw)]
    return Picture(name, Image.fromarray(noise), torch.tensor(boxes, dtype=torch.float64), grid_hw)


def explanation(
    grid_hw: tuple[int, int] = (3, 4),
    num_global: int = 0,
    against: int | None = None,
    target: int = 1,
    hostile: str = "",
    prior: float = 0.125,
) -> Explanation:
    """Random numbers that add up as they must: 9 training pictures, 7 classes, 3 pictures shown, one of them gone."""
    rng = np.random.default_rng(5)
    N, n, C = grid_hw[0] * grid_hw[1] + num_global, 9, 7
    logits = rng.normal(size=C) * 0.1
    logits[1] = 0.9
    logit = logits[target] - (0.0 if against is None else logits[against])

    def adding_up(size: int, total: float) -> np.ndarray:
        x = rng.normal(size=size)
        return x + (total - x.sum()) / size

    dual = adding_up(n, logit - prior)
    shown = tuple(int(i) for i in (-dual).argsort()[:3])
    parts = LogitParts(
        target, torch.tensor(logits), prior, *(torch.tensor(adding_up(N, logit - prior)) for _ in range(2)),
        torch.tensor(rng.normal(size=N)), torch.tensor(dual), torch.tensor(adding_up(n, logit)),
        torch.tensor(rng.normal(size=n)), num_global, against,
    )  # fmt: skip
    maps = {i: torch.tensor(adding_up(N * N, dual[i]).reshape(N, N)) for i in shown}
    return Explanation(
        parts=parts,
        classes=tuple(f"class {c}{hostile}" for c in range(C)),
        picture=picture(f"test{hostile}", grid_hw, 0),
        probabilities=torch.softmax(torch.tensor(logits) / 0.1, 0),
        training_ids=tuple(f"training {i}{hostile}" for i in range(n)),
        training_labels=tuple(f"class {i % C}{hostile}" for i in range(n)),
        shown=shown,
        shown_pictures={i: picture(f"training {i}", grid_hw, i, (60, 100)) for i in shown[:2]},
        pair_maps=maps,
        facts={"lam": 0.1, "backbone": f"vit{hostile}", "data": None, "fit_intercept": True, "other": [1, 2.5]},
    )


def bare(e: Explanation) -> Explanation:
    """The same, where no training picture could be found."""
    return replace(e, shown_pictures={}, pair_maps={})


VARIANTS = {
    "plain": explanation(),
    "contrast": explanation(against=4),
    "behind": explanation(target=4, against=1),
    "not predicted": explanation(target=2),
    "global regions": explanation(num_global=2),
    "one region": explanation((1, 1)),
    "one row": explanation((1, 9)),
    "hostile": explanation(hostile=HOSTILE),
    "long names": explanation(hostile="x" * 300),
    "bare": bare(explanation()),
    "no prior": explanation(prior=0.0),
    "nothing shown": replace(bare(explanation()), shown=()),
    "pairs of gone pictures": replace(explanation(), shown_pictures={}),
    "pictures without pairs": replace(explanation(), pair_maps={}),
}


def test_the_random_explanation_adds_up() -> None:
    for name, e in VARIANTS.items():
        assert max(map(abs, e.residual.values())) < 1e-13, name


def test_pairs_are_the_largest_of_all() -> None:
    e = explanation()
    every = [
        (float(v), r, e.training_ids[i], t)
        for i, m in e.pair_maps.items()
        for r, row in enumerate(m)
        for t, v in enumerate(row)
    ]
    every.sort(reverse=True)
    for k in (1, 7, 10_000):
        found = e.pairs(k)
        assert [(q.contribution, q.region, q.training_id, q.training_region) for q in found] == every[:k]
    assert len(e.pairs()) == 10
    assert bare(e).pairs() == ()


def test_no_pairs_are_refused(as_user: None) -> None:
    with pytest.raises(ValueError, match=r"`k` must be a whole number >= 1; got 0"):
        explanation().pairs(0)


@pytest.mark.parametrize("name", VARIANTS)
def test_text_holds_every_sum(name: str) -> None:
    e = VARIANTS[name]
    told = e.proof()
    residuals = [float(x) for x in re.findall(r"residual ([-+.e\d]+)", told)]
    assert len(residuals) == len(e.residual)
    assert max(map(abs, residuals)) < 1e-13
    assert f"{e.parts.logit:+.6f}" in told
    for row in e.training:
        assert f"{row.id} ({row.label})" in told
        assert f"dual {row.dual:+.4f}   label {row.label_part:+.4f}   removal {row.removal:+.4f}" in told
    assert ("less that of" in told) == (e.against is not None)
    assert ("global region" in told) == (e.parts.num_global > 0)
    assert ("because of" in told) == bool(e.pair_maps)


def test_the_proof_says_what_is_said_and_what_is_explained() -> None:
    e = explanation(target=2)
    lines = replace(e, picture=replace(e.picture, label="class 3")).proof().splitlines()
    assert lines[0] == f"test: says class 1, probability {float(e.probabilities[1]):.4f}; labelled class 3"
    assert lines[1].startswith("  explained: logit of class 2, ")
    share = explanation(num_global=2)
    assert f"a global region: {float(share.parts.token[-2:].sum()):+.6f}" in share.proof()


@pytest.mark.parametrize("name", VARIANTS)
def test_the_answer_is_a_few_plain_lines_that_add_up(name: str) -> None:
    e = VARIANTS[name]
    lines, p = str(e).splitlines(), e.parts
    assert len(lines) <= (5 if e.against is None else 6)
    assert e.classes[int(p.logits.argmax())] in str(e)
    assert not re.search(r"residual|dual|token level|logit|e-\d", str(e).replace(e.picture.id, ""))
    said, *parts = (float(x) for x in re.findall(r"[-+]\d+\.\d{3}", lines[1].replace(e.picture.id, "")))
    assert said == pytest.approx(p.logit, abs=6e-4)
    assert sum(parts) == pytest.approx(said, abs=3e-3)
    local = p.token[: len(p.token) - p.num_global]
    opens = "  most for it: " if e.against is None else f"  for {e.target}: "
    most = [line for line in lines if line.startswith(opens)]
    assert len(most) == bool((local > 0).any())
    assert all(float(x) > 0 for line in most for x in re.findall(r"[-+]\d+\.\d{3}", line))
    if e.against is not None:
        (other,) = (line for line in lines if line.startswith(f"  for {e.against}: "))
        assert where(e.picture, int(local.argmin())) in other.split(";")[0], "the other class's best comes first"
        assert all(float(x) < 0 for x in re.findall(r"[-+]\d+\.\d{3}", other))
        (missed,) = (line for line in lines if f"that do most for {e.against}:" in line)
        assert f": {e.training_ids[int(p.removal.argmin())]} (" in missed
    assert ("the whole picture" in lines[1]) == (p.num_global > 0)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "hostile"])
def test_every_explanation_is_drawn(name: str) -> None:
    figure = VARIANTS[name].plot(maps=True)
    figure.canvas.draw()
    assert len([a for a in figure.axes if a.images]) >= 4


@pytest.mark.parametrize("name", VARIANTS)
def test_the_figure_says_what_the_page_says(name: str) -> None:
    e = VARIANTS[name]
    figure = e.plot()
    figure.canvas.draw()
    v, page = View(e), e.to_html()

    def words(markup: str) -> str:
        return "".join(plain(markup).split())  # lines are broken elsewhere

    def read(found: Iterable[str]) -> str:
        return "".join(" ".join(found).split())

    (spared,) = re.findall('<p class="small soft" id="spared">(.*?)</p>', page)
    (sentence,) = re.findall('<h1 id="sentence">(.*?)</h1>', page, re.DOTALL)
    assert read([figure.get_suptitle()]) == words(sentence) + words(spared)
    picture, terms, *training = figure.axes
    assert words(v.legend_of) in read([picture.get_xlabel()])
    (table,) = re.findall('<table id="supporters">(.*?)</table>', page, re.DOTALL)
    drawn = [read([text.get_text()]) for text in terms.texts]
    for row in re.findall("<tr.*?</tr>", table, re.DOTALL):
        (told,) = re.findall("<th.*?</th>", row, re.DOTALL)
        shown = words(re.findall('<td class="number">(.*?)</td>', row, re.DOTALL)[0])
        assert shown in drawn
        assert any(words(told).startswith(one.removesuffix("…")) for one in drawn if len(one) > 5)
    *bars, whole = terms.patches
    assert sum(bar.get_width() for bar in bars) == pytest.approx(whole.get_width(), abs=1e-9)
    cards = re.findall('<p class="without">(.*?)</p>', page, re.DOTALL)[:3]
    assert len(training) == len(cards) == min(3, len(e.shown))
    for axis, card in zip(training, cards, strict=True):
        assert words(card) in read([axis.get_title()])


def test_the_figure_has_the_map_of_the_page_and_flags_doubt() -> None:
    e = explanation()
    doubted = replace(e, doubtful={e.shown[1]: "class 6"})
    picture, _, *training = doubted.plot().axes
    said = [" ".join(text.get_text() for axis in [card] for text in axis.texts) for card in training]
    assert ["Doubtful label" in words for words in said] == [False, True, False]
    (cells,) = picture.collections
    fills = re.findall(r'fill="(#\w+)" fill-opacity="([\d.]+)"><title>patch', doubted.to_html())[: len(e.picture.boxes)]
    found = [(to_hex(colour), colour[3]) for colour in cells.get_facecolors()]
    assert [colour for colour, _ in found] == [colour for colour, _ in fills]
    assert [opacity for _, opacity in found] == pytest.approx([float(x) for _, x in fills], abs=6e-4)


def test_the_figure_has_room_for_both_names_of_a_lead() -> None:
    e = explanation(against=4)
    figure = replace(e, classes=tuple(f"Nova Scotia duck tolling retriever, {name}" for name in e.classes)).plot()
    figure.canvas.draw()
    title = figure.axes[1]._left_title  # type: ignore[attr-defined]
    assert " ".join(title.get_text().split()).endswith("retriever, class 4")
    assert title.get_window_extent().x1 < figure.bbox.x1


def test_a_name_with_dollars_is_no_formula() -> None:
    for maps in (False, True):
        explanation(hostile=r" $\nothing{$ < & ").plot(maps).canvas.draw()


def test_the_figure_marks_pairs_of_the_first_picture_that_has_them() -> None:
    e = explanation(against=4)
    first, second = e.shown[:2]
    figure = replace(e, pair_maps={second: e.pair_maps[second]}).plot(maps=True)
    titles = [a.get_title() for a in figure.axes]
    assert titles.index(f"training {second}\ndual {float(e.parts.dual[second]):+.3f}") < titles.index(
        f"training {first}\ndual {float(e.parts.dual[first]):+.3f}"
    )
    assert len(figure.artists) == 3
    assert "why class 1 and not class 4" in figure.get_suptitle().replace("\n", " ")
    assert replace(e, pair_maps={}).plot(maps=True).artists == []
    flat = torch.ones_like(e.pair_maps[second])
    assert replace(e, pair_maps={second: flat}).plot(maps=True).artists == [], "they would tell nothing"


@pytest.mark.parametrize("name", VARIANTS)
def test_json_holds_every_number_to_the_last_bit(name: str) -> None:
    e = VARIANTS[name]
    p, found = e.parts, json.loads(e.to_json())
    assert found == e.to_dict()
    assert found["level"] == "token"
    assert found["picture"] == {"id": e.picture.id, "label": None, "width": 90, "height": 60} | {
        "rows": e.picture.grid_hw[0], "columns": e.picture.grid_hw[1],
    }  # fmt: skip
    assert (found["target"]["class"], found["target"]["index"]) == (e.target, p.target)
    assert found["against"] == (None if p.against is None else {"class": e.against, "index": p.against})
    assert (found["logit"], found["prior"]) == (p.logit, p.prior)
    assert [c["logit"] for c in found["classes"]] == p.logits.tolist()
    assert [c["probability"] for c in found["classes"]] == e.probabilities.tolist()
    assert [c["class"] for c in found["classes"]] == list(e.classes)
    for key, values in (("token", p.token), ("node", p.node), ("drop", p.drop)):
        assert [r[key] for r in found["regions"]] == values.tolist()
    local = [r for r in found["regions"] if not r["global"]]
    assert [r["box"] for r in local] == e.picture.boxes.tolist()
    assert [r["row"] * e.picture.grid_hw[1] + r["column"] for r in local] == list(range(len(local)))
    assert [r["box"] for r in found["regions"] if r["global"]] == [None] * p.num_global
    shown, totals = found["training"]["shown"], found["training"]["totals"]
    assert [(r["index"], r["id"], r["label"], r["dual"], r["label_part"], r["removal"]) for r in shown] == [
        (i, *part) for i, part in zip(e.shown, e.training, strict=True)
    ]
    for key in ("dual", "label_part", "pictures"):
        assert totals["shown"][key] + totals["others"][key] == pytest.approx(totals["all"][key], abs=1e-13)
    assert totals["all"]["dual"] + p.prior == pytest.approx(p.logit, abs=1e-13)
    assert totals["all"]["label_part"] == pytest.approx(p.logit, abs=1e-13)
    assert {name: s["residual"] for name, s in found["sums"].items()} == e.residual
    assert all(s["sum"] - s["must_be"] == s["residual"] for s in found["sums"].values())
    for q, pair in zip(found["pairs"]["strongest"], e.pairs(), strict=True):
        assert e.training_ids[q["training_index"]] == pair.training_id
        assert (q["region"], q["training_region"], q["contribution"]) == (pair[0], pair[2], pair[3])
        assert float(e.pair_maps[q["training_index"]][pair.region, pair.training_region]) == pair.contribution
    for q in found["pairs"]["pictures"]:
        dual = float(p.dual[q["training_index"]])
        assert sum(q["by_region"]) == pytest.approx(dual, abs=1e-12)
        assert sum(q["by_training_region"]) == pytest.approx(dual, abs=1e-12)
        assert (q["boxes"] is None) == (q["training_index"] not in e.shown_pictures)
    assert found["facts"] == dict(e.facts)


def test_json_keys_stay() -> None:
    """Somebody reads them: a new key is welcome, a lost one is not."""
    found = explanation().to_dict()
    assert set(found) >= {
        "format", "version", "level", "exact", "picture", "target", "against", "logit", "prior", "predicted", "classes",
        "regions", "sums", "training", "pairs", "facts",
    }  # fmt: skip
    assert (found["format"], found["version"]) == ("carrot explanation", 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, Path("x")])
def test_what_json_has_no_word_for_is_refused(value: object, as_user: None) -> None:
    with pytest.raises((TypeError, ValueError), match=r"explanation\.facts\.lam"):
        replace(explanation(), facts={"lam": value}).to_json()


def test_a_nan_is_refused_by_name(as_user: None) -> None:
    e = explanation()
    token = e.parts.token.clone()
    token[2] = torch.nan
    with pytest.raises(ValueError, match=r"regions\[2\]\.token must be finite"):
        replace(e, parts=replace(e.parts, token=token)).to_dict()


@pytest.mark.parametrize("kind", ["to_json", "to_html"])
def test_files_are_whole_or_absent(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    e, path = explanation(hostile=HOSTILE), tmp_path / "deep" / "er" / "page"
    text = getattr(e, kind)(path)
    assert path.read_text("utf-8") == text
    assert getattr(e, kind)() == text  # and nothing in it changes from run to run
    getattr(explanation(), kind)(str(path))  # a string will do, and the old file is replaced
    kept = path.read_text("utf-8")
    assert kept != text

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left"):
        getattr(e, kind)(path)
    assert path.read_text("utf-8") == kept
    assert os.listdir(path.parent) == ["page"]


def test_a_name_that_is_no_unicode_is_told_too(tmp_path: Path) -> None:
    """File names of old systems reach Python as lone surrogates, which UTF-8 can't write."""
    e = replace(explanation(), picture=replace(explanation().picture, id="caf\udce9.jpg"))
    assert json.loads(e.to_json(tmp_path / "a.json"))["picture"]["id"] == "caf\udce9.jpg"
    assert "caf?.jpg" in e.to_html(tmp_path / "a.html")


def test_of_a_real_model(tmp_path: Path) -> None:
    birds = ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=3)
    model = Carrot("toy", lift="identity", t=2.0, crop="squash").fit(birds, tokens=tmp_path / "tokens")
    e = model.explain(birds.image(12), against=2, target=0, k=2, label=birds.classes[0])
    assert max(map(abs, e.residual.values())) < 1e-10
    found = json.loads(e.to_json(tmp_path / "e.json"))
    assert sum(r["token"] for r in found["regions"]) + found["prior"] == pytest.approx(found["logit"], abs=1e-10)
    assert len(found["pairs"]["pictures"]) == 2
    assert f"<title>{birds.classes[0]}, not {birds.classes[2]}: " in e.to_html()
    e.plot().canvas.draw()


def test_a_label_is_doubtful_where_the_audit_says_so() -> None:
    birds = ToyBirds(n_train_per_class=12, n_test_per_class=1, n_species=3)
    train = [i for i, record in enumerate(birds.records) if record.split == "train"]
    labels = [birds.classes[birds.records[i].label] for i in train]
    labels[0] = birds.classes[2]  # a lie
    model = Carrot("toy", regions="tiles:2").fit([birds.image(i) for i in train], labels)
    flagged = {suspect.id: suspect.suggested for suspect in model.audit().doubtful}
    row = next(i for i, record in enumerate(model.records_) if record.id in flagged)
    e = model.explain(birds.image(train[row]))
    assert e.counterfactuals is not None
    expected = {i: flagged[e.training_ids[i]] for i in e.counterfactuals.rows if e.training_ids[i] in flagged}
    assert e.doubtful == expected
    assert row in e.doubtful
    found = json.loads(e.to_json())
    assert [row["doubtful"] for row in found["training"]["shown"]] == [e.doubtful.get(i) for i in e.shown]


@pytest.mark.parametrize("against", [None, 4])
def test_whoever_is_named_in_the_terminal_is_marked_where_the_label_is_doubtful(against: int | None) -> None:
    e = explanation(against=against)
    moves = torch.full_like(e.parts.removal, 0.1)
    moves[next(i for i in range(len(moves)) if i not in e.shown)] = -0.5  # without it the logit would rise
    e = replace(e, parts=replace(e.parts, removal=moves))
    doubted = replace(e, doubtful=dict.fromkeys(range(len(e.training_ids)), "class 6"))
    for told, sound in ((str(doubted), str(e)), (doubted.proof(), e.proof())):
        named = sum(len(re.findall(re.escape(f"{i} ({label}"), sound)) for i, label in who(e))
        assert named >= 3
        assert told.count(", a doubtful label: the others say class 6)") == named
        assert "doubtful" not in sound


def who(e: Explanation) -> set[tuple[str, str]]:
    return set(zip(e.training_ids, e.training_labels, strict=True))
