"""A picture that the model was fitted on: every face of its explanation says so first, and what is said without it."""

import io
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from carrot import Carrot, cli
from carrot.data.records import Box, Cut
from carrot.data.toy import ToyBirds
from carrot.explanation import Explanation
from tests.unit.test_page import Page

BIRDS = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=3)
TRAIN = [i for i, record in enumerate(BIRDS.records) if record.split == "train"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Carrot, list[Path]]:
    """A model of files, the first of which is labelled wrong."""
    folder, paths = tmp_path_factory.mktemp("birds"), []
    for i in TRAIN:
        paths.append(folder / f"{i}.png")
        BIRDS.image(i).save(paths[-1])
    labels = [BIRDS.classes[BIRDS.records[i].label] for i in TRAIN]
    labels[0] = next(name for name in BIRDS.classes if name != labels[0])
    return Carrot("toy", regions="tiles:2", device="cpu").fit(paths, labels), paths


@pytest.fixture(scope="module")
def own(fitted: tuple[Carrot, list[Path]]) -> Explanation:
    model, paths = fitted
    return model.explain(paths[0])


def test_it_says_what_the_model_fitted_without_it_says(fitted: tuple[Carrot, list[Path]], own: Explanation) -> None:
    model, paths = fitted
    assert own.own is not None
    supposed = model.what_if(paths[0], without=[model.records_[0].id])
    best = max(range(len(own.classes)), key=lambda c: float(supposed.logits[c]))
    assert own.own.row == 0
    assert own.own.says == own.classes[best]
    assert own.own.probability == pytest.approx(float(supposed.probabilities[best]), abs=1e-6)


def test_every_face_says_it_first(own: Explanation, tmp_path: Path) -> None:
    assert own.own is not None
    told = own.own.told
    assert told.startswith("The model was fitted on this picture; without it, it says ")
    for text in (str(own), own.proof()):
        assert told in text.split("\n")[0]
    assert ", this picture itself" in str(own) or own.own.row not in own.shown[:3]
    page = own.to_html()
    words = Page(page).text.replace("\N{NO-BREAK SPACE}", " ")
    assert words.index(told) < words.index("The model says")
    assert told in own._repr_html_()
    for figure in (own.plot(), own.plot(maps=True)):
        assert isinstance(figure, Figure)
        assert figure._suptitle.get_text().replace("\n", " ").startswith(told)  # type: ignore[attr-defined]
    fitted_on = json.loads(own.to_json())["fitted_on"]
    assert fitted_on == {
        "index": 0,
        "id": own.training_ids[0],
        "says": own.own.says,
        "probability": own.own.probability,
    }


def test_it_is_paired_with_others_alone(own: Explanation) -> None:
    """That it is like itself tells nothing."""
    assert own.own is not None
    assert own.own.row in own.pair_maps, "or there is nothing to leave out"
    page = own.to_html()
    pairs = page.split('id="pairs"')[-1].split('id="proofs"')[0] if 'id="pairs"' in page else ""
    assert f"Of training picture {own.training_ids[0]}:" not in pairs


def test_it_is_known_however_it_is_given(fitted: tuple[Carrot, list[Path]]) -> None:
    model, paths = fitted
    content = paths[1].read_bytes()
    for picture in (paths[1], str(paths[1]), content, io.BytesIO(content)):
        e = model.explain(picture, k=1)
        assert e.own is not None
        assert e.own.row == 1
    there = BIRDS.image(len(BIRDS.records) - 1)
    for picture in (there, Cut(paths[1], Box(0, 0, 40, 40))):
        new = model.explain(picture, k=1)
        assert new.own is None
        assert json.loads(new.to_json())["fitted_on"] is None
        assert "was fitted on this picture" not in f"{new}{new.to_html()}"
    at_hand = Carrot("toy", regions="tiles:2", lam=1.0, device="cpu").fit(
        [BIRDS.image(i) for i in TRAIN[:4]], [*"aabb"]
    )
    same = at_hand.explain(BIRDS.image(TRAIN[3]), k=1)
    assert same.own is not None
    assert same.own.row == 3


def test_the_only_one_of_its_class_leaves_none() -> None:
    pictures: list[Image.Image] = [BIRDS.image(i) for i in TRAIN[:3]]
    e = Carrot("toy", regions="tiles:2", lam=1.0, device="cpu").fit(pictures, [*"aab"]).explain(pictures[2], k=1)
    assert e.own is not None
    assert e.own.says is None
    assert "the only one of its class" in str(e).split("\n")[0]


def test_predict_counts_them_in_a_line(
    fitted: tuple[Carrot, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, paths = fitted
    model.save(tmp_path / "m")
    BIRDS.image(len(BIRDS.records) - 1).save(tmp_path / "new.png")
    asked = ["predict", str(tmp_path / "m"), *map(str, paths[:2]), str(tmp_path / "new.png")]
    assert cli.main(asked) == 0
    assert "the model was fitted on 2 of these 3 pictures" in capsys.readouterr().err
    assert cli.main([*asked[:2], asked[-1]]) == 0
    assert "was fitted on" not in capsys.readouterr().err
    assert cli.main([*asked[:3], "--json"]) == 0
    said = capsys.readouterr()
    assert "the model was fitted on this picture" in said.err
    assert json.loads(said.out)["fitted_on"] == [str(paths[0])]
