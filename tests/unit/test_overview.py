"""A report of a whole model and an index of a folder: sums are exact, nothing is asked of the backbone unasked, pages
hold no markup of the data's, and a killed index goes on.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from carrot import Carrot, TimmViTPatchBackbone, cli
from carrot.classifier.held_out import NotKept, held_out
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.evaluation.figures import reliability, sure_and
from carrot.evaluation.verdict import honest
from carrot.explanation.words import where
from carrot.overview import evidence, judged
from carrot.overview.index_page import write_index
from carrot.overview.rows import rows_of
from carrot.overview.thumbs import with_frame
from tests.unit.test_tile_mutants import damage

pytestmark = pytest.mark.usefixtures("surveyed_once")

BIRDS = ToyBirds(n_train_per_class=4, n_test_per_class=2, n_species=3)
BIRDS_8 = ToyBirds(n_train_per_class=8, n_test_per_class=0, n_species=3)
SETTINGS: dict[str, dict[str, Any]] = {
    "tiles": {"regions": "tiles:2"},
    "summed": {"regions": "tiles:2", "readout": "sum", "fit_intercept": False, "lift": "identity"},
    "diffused, with a share": {"regions": "tiles:2", "t": 1.0, "global_share": 0.2, "class_weight": "balanced"},
    "patches": {"coarsen": 5, "lift": "identity"},
}
HOSTILE = 'x" onerror=<script>alert(1)<'


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy birds in train/CLASS and test/CLASS."""
    root = tmp_path_factory.mktemp("birds")
    for i, record in enumerate(BIRDS.records):
        path = root / record.split / f"bird{record.label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        BIRDS.image(i).save(path)
    return root


@pytest.fixture(scope="module")
def saved(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "birds"
    Carrot("toy", regions="tiles:2", lam=0.01).fit(pictures, tokens=folder / "tokens").save(folder)
    return folder


@pytest.fixture
def model(saved: Path) -> Carrot:
    return Carrot.load(saved)


def fitted(settings: dict[str, Any], tokens: Path) -> Carrot:
    weights = [0.5 + i / 8 for i in range(12)]
    return Carrot("toy", lam=0.01, **settings).fit(BIRDS, sample_weight=weights, tokens=tokens)


def check_without(found: Carrot) -> None:
    """The map of a training picture is that of a real fit without it, and adds up to its leave-one-out logit."""
    classifier, head = found.classifier, found.head_
    for i, c in ((0, 0), (7, 2)):
        w, start = judged.without(classifier, i, c)
        refitted = head.without(i)
        assert torch.allclose(w[:, 0], refitted.W_star[:, c], rtol=1e-8, atol=1e-10)
        origin = torch.zeros_like(head.g_mean) if found.setting_.readout == "sum" else head.g_mean
        assert start == pytest.approx(float(refitted.predict(origin)[c]), abs=1e-9)
    _, best, worst = judged.of_training(classifier, 3)
    for example in (*best, *worst):
        assert example.start + float(example.regions.sum()) == pytest.approx(example.logit, abs=1e-9)


def check_evidence(found: Carrot) -> None:
    """Tiles of a class are those of the sum, written out from lifted tokens; with all others it is the score."""
    classifier, head = found.classifier, found.head_
    answer = evidence.class_evidence(classifier)
    assert answer is not None
    is_sum = found.setting_.readout == "sum"
    for c, one in enumerate(answer):
        rows = (found.fitted.labels == c).nonzero().flatten().tolist()
        mean = head.G[rows].double().mean(dim=0)
        gm = torch.zeros_like(mean) if is_sum else head.g_mean
        places, strongest = torch.zeros_like(one.places), []
        for i in rows:
            trace = classifier.trace(BIRDS.image(i))
            phi = trace.lift.features(trace.H) - gm / trace.pi.sum()
            parts = float(head.alpha[i, c]) * trace.pi * (phi @ (mean - gm))
            places += parts
            strongest.append((float(parts.max()), i, int(parts.argmax())))
        assert torch.allclose(one.places, places, rtol=1e-3, atol=1e-4), "tokens are rounded when kept"
        assert one.own == pytest.approx(float(one.places.sum()), abs=1e-9)
        others = [i for i in range(len(head.G)) if i not in rows]
        dual = head.alpha[others, c] * ((head.G[others].double() - gm) @ (mean - gm))
        assert one.others == pytest.approx(float(dual.sum()), abs=1e-9)
        assert {(t.row, t.region) for t in one.tiles} == {(i, k) for _, i, k in sorted(strongest, reverse=True)[:3]}


@pytest.mark.parametrize("name", SETTINGS)
def test_sums_are_exact(name: str, tmp_path: Path) -> None:
    found = fitted(SETTINGS[name], tmp_path)
    check_without(found)
    check_evidence(found)


MUTANTS: dict[str, tuple[str, str, str, Callable[[Carrot], None]]] = {
    "no weight": ("judged", "loss * float(head.sample_weight[i]) *", "loss *", check_without),
    "no slack": ("judged", "float(logit.residual[i, 0] / head.slack[i])", "float(logit.residual[i, 0])", check_without),
    "alpha of another": ("evidence", "head.alpha[list(rows), c : c + 1]", "head.alpha[list(rows), :1]", check_evidence),
    "not from the mean": ("evidence", "else means - origin", "else means", check_evidence),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_damaged_sums_are_rejected(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, old, new, check = MUTANTS[name]
    found = fitted(SETTINGS["tiles"], tmp_path)
    damage(monkeypatch, f"overview.{module}", old, new)
    with pytest.raises(AssertionError):
        check(found)


def test_promises_are_binned_and_the_surest_are_chosen() -> None:
    p = torch.tensor([[0.95, 0.05], [0.92, 0.08], [0.4, 0.6], [0.1, 0.9]], dtype=torch.float64)
    y = torch.tensor([0, 1, 1, 1])
    assert [one["n"] for one in reliability(p, y)] == [1, 3]
    assert reliability(p, y)[1] == pytest.approx({"from": 0.9, "n": 3, "promised": 0.9233333, "right": 2 / 3})
    assert sure_and(True, p, y, 2) == [0, 3], "each class once"
    assert sure_and(True, p, y, 3) == [0, 3, 2]
    assert sure_and(False, p, y, 3) == [1]


class Page(HTMLParser):
    """What a page holds: its tags, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")]
        self.loads += [given[name] or "" for name in ("src", "href", "srcset") if name in given]


def check_page(text: str) -> Page:
    page = Page(text)
    assert "script" not in page.tags
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert all(re.match(r"data:image/jpeg;base64,|index(-\d+)?\.html$|pages/[\w-]+\.html$", x) for x in page.loads)
    return page


def no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(*_: object) -> None:
        raise AssertionError("the backbone ran")

    monkeypatch.setattr(Encoder, "encode", encode)
    monkeypatch.setattr(Encoder, "tokens", encode)


def test_a_report_asks_nothing_of_the_backbone(
    model: Carrot,
    saved: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(NotKept, match="has not looked at the 6 held-out pictures"):
        held_out(model.classifier, str(pictures), saved / "tokens", kept_only=True)
    with monkeypatch.context() as patch:
        no_backbone(patch)
        report = model.report()
    assert report.held_out is None
    assert [gap.command for gap in report.gaps] == [f"carrot report {saved} --held-out", f"carrot evaluate {saved}"]
    assert report.judged.accuracy["top1"] == model.fitted.leave_one_out()["loo_accuracy"]
    text = report.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == text
    page = check_page(text)
    wanted = 3 * len(report.shown_classes) + 2 * len(report.best) + 2 * len(report.worst)
    assert page.tags.count("img") >= wanted
    assert len(text) < 3e6
    json.dumps(report.to_dict(), allow_nan=False)

    assert cli.main(["evaluate", str(saved), "--explained", "2", "--occluded", "0", "--refits", "1"]) == 0
    numbers = json.loads((saved / "evaluation" / "metrics.json").read_bytes())
    with monkeypatch.context() as patch:
        no_backbone(patch)
        report = Carrot.load(saved).report()
    assert report.held_out is not None
    assert report.held_out.accuracy == numbers["accuracy"]
    assert report.held_out.calibration == numbers["calibration"]
    judged = honest(numbers["accuracy"], numbers["calibration"])
    assert judged in str(report), "the verdict of the evaluation, word by word"
    assert judged in capsys.readouterr().out
    assert report.held_out.confusions == numbers["confusions"]
    assert report.measured["baselines"] == numbers["baselines"]
    assert not report.gaps
    assert len(report.provenance["files"]) == 3
    for example in (*report.best, *report.worst):
        assert example.start + float(example.regions.sum()) == pytest.approx(example.logit, abs=1e-9)
    assert "Instead: " in report.to_html()

    changed = Carrot.load(saved)
    changed.relabel({changed.records_[0].id: "bird1"})
    again = changed.report()
    assert not again.measured, "they are of the model before"
    assert "before its last change" in again.gaps[0].why
    assert not again.provenance["files"], "what lies on the disk is another"


def test_names_from_the_data_stay_text(model: Carrot) -> None:
    now = model.classifier
    names = (HOSTILE, *now.fitted.classes[1:])
    records = tuple(replace(record, id=f"{HOSTILE}{record.id}") for record in now.fitted.records)
    model._now = replace(now, fitted=replace(now.fitted, classes=names, records=records, data=HOSTILE))
    text = model.report().to_html()
    check_page(text)
    assert "<script" not in text


def test_a_model_from_python_is_reported_too() -> None:
    report = Carrot("toy", regions="tiles:2").fit(BIRDS).report()
    assert report.evidence is None, "its tokens were not kept"
    assert report.gaps[0].command == "carrot report MODEL --held-out --data DATA"
    check_page(report.to_html())


def test_a_model_of_the_first_version_is_reported_too() -> None:
    theirs = Path(__file__).resolve().parents[1] / "fixtures" / "model_v1"
    weights = theirs / "backbone.safetensors"
    then = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=weights, crop="squash", attention=None)
    report = Carrot.load(theirs, backbone=then).report()
    check_page(report.to_html())
    assert len(report.provenance["files"]) == 2


def folder_of(pictures: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "some <b>pictures"
    for place in ("test/bird0", "test/bird1", "train/bird2"):
        for path in sorted((pictures / place).iterdir())[:2]:
            copy = folder / path.parent.name / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (folder / "bird0" / "other.png").write_bytes(sorted((pictures / "test/bird2").iterdir())[0].read_bytes())
    (folder / "bird1" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    return folder


def test_an_index_says_what_the_model_says_and_sets_aside_by_name(
    model: Carrot, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, place = folder_of(pictures, tmp_path), tmp_path / "out"
    monkeypatch.setattr("carrot.overview.index_page.ON_A_PAGE", 3)
    index = write_index(model.classifier, folder, place, "seal", 2)
    rows = {row.file: row for row in index.rows.rows}
    assert len(rows) == 7
    assert list(index.rows.aside) == ["bird1/broken.png"]
    for name, row in rows.items():
        e = model.explain(folder / name)
        assert (row.predicted, row.score) == (e.target, pytest.approx(e.parts.logit, abs=1e-3))
        told = where(e.picture, int(e.regions.argmax())).replace("\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}", " x ")
        assert row.strongest == "{} ({})".format(*told.split(", "))
        assert row.training == e.training_ids[int(e.parts.removal.argmax())]
        assert row.was_fitted_on == name.startswith("bird2")
        assert row.label == name.split("/")[0]
    first = (place / "index.html").read_text()
    check_page(first)
    assert "some &lt;b&gt;pictures: 7 pictures explained" in first
    assert "bird1/broken.png" in first
    assert sorted(path.name for path in place.glob("*.html")) == ["index-2.html", "index-3.html", "index.html"]
    assert len(list((place / "pages").glob("*.html"))) == 2
    links = [x for x in Page(first).loads if x.startswith("pages/")]
    assert links
    assert all((place / link).is_file() for link in links)

    no_backbone(monkeypatch)
    again = write_index(model.classifier, folder, place, "seal", 2)
    assert again.again == 7 + 2, "nothing is made twice"
    assert [row.file for row in again.rows.rows] == list(rows)


def test_a_killed_index_goes_on(model: Carrot, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, place = folder_of(pictures, tmp_path), tmp_path / "out"
    monkeypatch.setattr("carrot.overview.rows.BATCH", 4)  # tiles: a picture a pass, four to a file
    passes, tokens = [0], Encoder.tokens

    def killed(self: Encoder, pictures: Any) -> Any:
        passes[0] += 1
        if passes[0] == 6:
            raise KeyboardInterrupt
        return tokens(self, pictures)

    monkeypatch.setattr(Encoder, "tokens", killed)
    with pytest.raises(KeyboardInterrupt):
        rows_of(model.classifier, folder, place, "seal")
    assert not (place / "index.html").exists()
    found = rows_of(model.classifier, folder, place, "seal")
    assert (found.found_again, len(found.rows)) == (4, 7)
    assert rows_of(model.classifier, folder, place, "seal").found_again == 7
    damaged = sorted((place / "rows").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert rows_of(model.classifier, folder, place, "seal").found_again < 7
    assert rows_of(model.classifier, folder, place, "another model").found_again == 0


def test_a_page_is_made_again_when_its_training_pictures_come_back(saved: Path, pictures: Path, tmp_path: Path) -> None:
    folder, place = folder_of(pictures, tmp_path), tmp_path / "out"

    def pages() -> tuple[int, list[str]]:
        found = write_index(Carrot.load(saved).classifier, folder, place, "seal", 2)  # a process of its own
        return found.again - len(found.rows.rows), [page.read_text() for page in found.pages.values()]

    moved = pictures.rename(pictures.with_name("moved"))
    try:
        gone = write_index(Carrot.load(saved).classifier, folder, place, "seal", 2)
        assert all("Not shown: it could not be found" in page.read_text() for page in gone.pages.values())
        assert pages()[0] == 2, "nothing has come back"
    finally:
        moved.rename(pictures)
    made_again, texts = pages()
    assert made_again == 0
    assert not any("Not shown" in text or "carrot-not-shown" in text for text in texts)
    assert pages()[0] == 2
    moved = pictures.rename(pictures.with_name("moved"))
    try:
        assert pages() == (2, texts), "what a page shows it keeps"
    finally:
        moved.rename(pictures)


def test_the_commands(
    saved: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, theirs = folder_of(pictures, tmp_path), tmp_path / "model"
    Carrot.load(saved).save(theirs)
    assert cli.main(["report", str(theirs)]) == 0
    told = capsys.readouterr()
    assert f"page: {theirs / 'report.html'}" in told.out
    assert "not measured: Baselines" in told.err
    assert cli.main(["explain", str(theirs), str(folder), "--pages", "1"]) == 0
    told = capsys.readouterr()
    assert "7 pictures explained, 1 set aside; 1 whole page\n" in told.out
    assert "broken.png" in told.err
    assert cli.main(["explain", str(theirs), str(folder), "--pages", "1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["pictures"]) == 7
    for words, said in (
        (("--target", "bird0"), "`--target` goes with one picture"),
        (("--pages", "-1"), "`--pages` must be 0 or more"),
        (("--out", "x.html"), "`--out` must be a folder"),
    ):
        assert cli.main(["explain", str(theirs), str(folder), *words]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main(["explain", str(theirs), str(tmp_path / "empty")]) == 1
    assert "holds no picture that can be explained" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    assert cli.main(["explain", str(theirs), str(folder), "--out", str(tmp_path / "mine")]) == 1
    assert "no command wrote it" in capsys.readouterr().err

    gone = Carrot.load(theirs).records_[0].id
    assert cli.main(["forget", str(theirs), gone, "--no-verify", "--json"]) == 0
    certificate = json.loads(capsys.readouterr().out)
    assert not list(theirs.rglob("*.html")), "they may show the picture"
    assert not list(theirs.rglob("rows-*.json"))
    assert "report.html" in certificate["removed_files"]


def test_what_is_stamped_on_a_class_stands_out_among_the_places(tmp_path: Path) -> None:
    stamp, images, labels = BIRDS_8.image(0), [], []
    for i, record in enumerate(BIRDS_8.records):
        image = BIRDS_8.image(i)
        if record.label == 1:
            image.paste(stamp.resize((image.width // 3, image.height // 3)), (0, 0))
        images.append(image)
        labels.append(f"c{record.label}")
    found = Carrot("toy", regions="tiles:3@0").fit(images, labels, tokens=tmp_path)
    answer = evidence.class_evidence(found.classifier)
    assert answer is not None
    for one in answer:
        is_corner = int(one.places.argmax()) == 0
        assert is_corner == (one.name == "c1")
        assert (one.share > 0.9) == (one.name == "c1")
        assert ({tile.region for tile in one.tiles} == {0}) == (one.name == "c1")


@pytest.mark.parametrize("size", [(6, 400), (400, 6), (3, 3), (1, 1)])
def test_a_thin_picture_can_be_framed(size: tuple[int, int]) -> None:
    width, height = size
    for box in ((0, 0, width, height), (0, 0, width / 2, height / 2), (width / 2, 0, width, height)):
        assert with_frame(Image.new("RGB", size), tuple(map(float, box))).size[0] >= 1


def test_an_index_marks_a_doubtful_witness(tmp_path: Path) -> None:
    birds = ToyBirds(n_train_per_class=12, n_test_per_class=1, n_species=3)
    train = [i for i, record in enumerate(birds.records) if record.split == "train"]
    labels = [birds.classes[birds.records[i].label] for i in train]
    labels[0] = birds.classes[2]  # a lie
    model = Carrot("toy", regions="tiles:2").fit([birds.image(i) for i in train], labels)
    flagged = {suspect.id: suspect.suggested for suspect in model.audit().contradicted}
    (tmp_path / "folder").mkdir()
    for i in train:
        birds.image(i).save(tmp_path / "folder" / f"{i}.png")
    index = write_index(model.classifier, tmp_path / "folder", tmp_path / "index", "seal", 0)
    assert [row.doubtful for row in index.rows.rows] == [flagged.get(row.training) for row in index.rows.rows]
    marked = sum(row.doubtful is not None for row in index.rows.rows)
    assert 0 < marked < len(train)
    assert (tmp_path / "index" / "index.html").read_text().count("a doubtful label: the others say") == marked
