"""``Carrot`` as a user has it: every verb and kind of picture, each promise held against the modules or a real fit."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import carrot
from carrot import Carrot, RidgeHead, TimmViTPatchBackbone
from carrot.classifier.records import CHANGED, NOT_FOUND
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.embedding.setting import AXES, Setting
from carrot.lift import lift_from

pytestmark = pytest.mark.usefixtures("surveyed_once")

SPECIES, N_TRAIN, N_TEST = 4, 6, 2


@pytest.fixture(scope="module")
def birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=N_TRAIN, n_test_per_class=N_TEST, n_species=SPECIES)


@pytest.fixture(scope="module")
def fitted(birds: ToyBirds, tmp_path_factory: pytest.TempPathFactory) -> Carrot:
    return Carrot("toy", t=1.0, tau=0.5).fit(birds, tokens=tmp_path_factory.mktemp("tokens"))


def fresh(model: Carrot, folder: Path) -> Carrot:
    model.save(folder)
    return Carrot.load(folder)


def test_pictures(birds: ToyBirds) -> list[Image.Image]:
    n = SPECIES * N_TRAIN
    return [birds.image(i) for i in range(n, n + SPECIES * N_TEST)]


test_pictures.__test__ = False  # type: ignore[attr-defined]


def test_logits_are_those_of_the_modules_one_by_one(birds: ToyBirds, fitted: Carrot) -> None:
    """Written out with the public modules.

    Tokens rounded to float16, r from the attention, W, L, matrix exponential, phi, ridge.
    """
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=embedded_checkpoint(), crop="squash", attention=True)

    def embed(image: Image.Image) -> torch.Tensor:
        with torch.inference_mode():
            out = backbone(backbone.transform(image)[None])
        assert out.attention is not None
        H = out.H[0].half().double()
        r = out.attention[0].double().sqrt()
        graph = carrot.RegionGraphBuilder(0.5, 1.0).build(carrot.RegionSet(H, out.P.double(), out.grid_hw))
        pi = torch.linalg.matrix_exp(-graph.L) @ (r / r.sum())
        return torch.stack([(H.mT * pi) @ H])[0].flatten()  # without the sqrt 2: the same kernel, written twice

    n = SPECIES * N_TRAIN
    G = torch.stack([embed(birds.image(i)) for i in range(n)])
    y = torch.tensor([record.label for record in birds.records[:n]])
    head = RidgeHead(fitted.head_.lam, True).fit(G, y)
    pictures = test_pictures(birds)
    expected = head.predict(torch.stack([embed(image) for image in pictures])).numpy()
    np.testing.assert_allclose(
        fitted.decision_function(pictures), expected, rtol=0, atol=2e-5
    )  # float32 batches, float16 steps


def test_scikit_learns_verbs(birds: ToyBirds, fitted: Carrot) -> None:
    pictures, n = test_pictures(birds), SPECIES * N_TRAIN
    logits = fitted.decision_function(pictures)
    assert logits.shape == (SPECIES * N_TEST, SPECIES)
    assert logits.dtype == np.float64
    names = fitted.predict(pictures)
    assert list(names) == [birds.classes[c] for c in logits.argmax(axis=1)]
    p = fitted.predict_proba(pictures)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(
        np.log(p[:, 0] / p[:, 1]), (logits[:, 0] - logits[:, 1]) / fitted.temperature_, atol=1e-9
    )
    labels = [record.label for record in birds.records[n:]]
    right = float(np.mean(logits.argmax(axis=1) == labels))
    assert fitted.score(pictures, labels) == right
    assert fitted.score(pictures, [birds.classes[c] for c in labels]) == right
    assert tuple(fitted.classes_) == birds.classes
    assert fitted.classes_.dtype.kind == "U"


def test_every_kind_of_picture_is_the_same_picture(birds: ToyBirds, fitted: Carrot, tmp_path: Path) -> None:
    image = test_pictures(birds)[0]
    path = tmp_path / "bird.png"
    image.save(path)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).movedim(-1, 0)
    expected = fitted.decision_function(image)
    kinds = [path, str(path), array, tensor, tensor.double() / 255.0, [path], np.stack([array]), tensor[None]]
    for kind in kinds:
        np.testing.assert_array_equal(fitted.decision_function(kind), expected)
    assert fitted.decision_function([]).shape == (0, SPECIES)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (3, TypeError, "path"),
        (np.zeros((4, 4, 3)), ValueError, "uint8"),
        (np.zeros((4, 4, 4), dtype=np.uint8), ValueError, "height, width, 3"),
        (torch.zeros(4, 4, 3), ValueError, "3, height, width"),
        (torch.full((3, 4, 4), 2.0), ValueError, "before any normalisation"),
        (torch.full((3, 4, 4), float("nan")), ValueError, "before any normalisation"),
        (Image.new("I", (4, 4)), carrot.UnreadableImageError, "8 or 16 bits"),
        ("nowhere.png", carrot.UnreadableImageError, "nowhere.png"),
    ],
)
def test_what_is_no_picture_is_refused(fitted: Carrot, picture: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fitted.predict(picture)  # type: ignore[arg-type]


def test_a_trace_holds_every_object(birds: ToyBirds, fitted: Carrot) -> None:
    trace = fitted.trace(test_pictures(birds)[0])
    torch.testing.assert_close(torch.linalg.matrix_exp(-trace.L) @ trace.H, trace.H_prime, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.linalg.matrix_exp(-trace.L) @ trace.r, trace.pi, rtol=0, atol=1e-12)
    torch.testing.assert_close(lift_from("quadratic").embed(trace.H, trace.pi), trace.g, rtol=0, atol=1e-9)
    assert trace.logits is not None
    np.testing.assert_array_equal(trace.logits.numpy(), fitted.decision_function(test_pictures(birds)[0])[0])
    assert trace.P.shape == (100, 2)


def test_an_explanation_adds_up_and_is_the_modules_own(birds: ToyBirds, fitted: Carrot) -> None:
    image = test_pictures(birds)[3]
    e = fitted.explain(image, target=birds.classes[1], k=3)
    logit = float(fitted.decision_function(image)[0, 1])
    assert e.parts.logit == pytest.approx(logit, abs=1e-12)
    assert len(e.residual) == 4 + 3, "four sums, and the pairs with three training pictures"
    assert max(map(abs, e.residual.values())) < 1e-10
    for row, pairs in e.pair_maps.items():
        assert float(pairs.sum()) == pytest.approx(float(e.parts.dual[row]), abs=1e-11)
    assert e.shown == tuple(e.parts.removal.topk(3).indices.tolist()), "without which it would fall most"
    assert set(e.shown_pictures) == set(e.shown)
    contrast = fitted.explain(image, target=1, against=2)
    assert contrast.parts.logit == pytest.approx(logit - float(fitted.decision_function(image)[0, 2]), abs=1e-12)


def test_removing_a_training_picture_does_what_the_explanation_promised(
    birds: ToyBirds, fitted: Carrot, tmp_path: Path
) -> None:
    model, image = fresh(fitted, tmp_path / "m"), test_pictures(birds)[2]
    e = model.explain(image)
    row = int(e.parts.removal.abs().argmax())
    certificate = model.forget(model.records_[row].id)
    after = float(model.decision_function(image)[0, e.parts.target])
    assert after == pytest.approx(e.parts.logit - float(e.parts.removal[row]), abs=1e-10)
    assert certificate.largest_difference is not None
    assert certificate.largest_difference < 1e-12 * certificate.largest_weight
    assert len(model.records_) == len(model.head_.G) == SPECIES * N_TRAIN - 1


def test_forget_then_add_is_the_same_model(birds: ToyBirds, fitted: Carrot, tmp_path: Path) -> None:
    model, pictures = fresh(fitted, tmp_path / "m"), test_pictures(birds)
    rows = [1, N_TRAIN + 2]
    names = [model.records_[row].id for row in rows]
    before, temperature = model.decision_function(pictures), model.temperature_
    model.forget(names)
    assert not {record.id for record in model.records_} & set(names)
    assert np.abs(model.decision_function(pictures) - before).max() > 1e-6
    # each alone, so that its tokens come out of a batch of one; half a float16 step of a token is the most they may
    # differ by
    for row, name in zip(rows, names, strict=True):
        model.add(birds.image(row), [birds.records[row].label], [name])
    np.testing.assert_allclose(model.decision_function(pictures), before, atol=1e-6)
    assert model.temperature_ == pytest.approx(temperature, rel=1e-4)
    with pytest.raises(ValueError, match="already"):
        model.add(birds.image(1), [birds.records[1].label], [names[0]])


@pytest.mark.usefixtures("as_user")
def test_what_can_not_be_forgotten(fitted: Carrot) -> None:
    n = len(fitted.records_)
    with pytest.raises(ValueError, match="no training picture"):
        fitted.forget("nobody.png")
    with pytest.raises(ValueError, match="at least one"):
        fitted.forget([])
    with pytest.raises(ValueError, match="left without"):
        fitted.forget([record.id for record in fitted.records_ if record.label == 2])
    assert len(fitted.records_) == n, "a refusal changes nothing"


def test_select_tries_the_mean_and_takes_the_least_leave_one_out_error(
    birds: ToyBirds, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = {
        "lift": ["identity", "relu:32"],
        "tau": [0.0, 0.5],
        "t": [1.0, 3.0],
        "sigma_spatial": [0.5],
        "sigma_feature": [1.0],
    }
    model = Carrot("toy").select(birds, grid=grid)
    assert len(model.selection_) == 4 + 2, "four at t = 0, two graphs for the best"
    assert {"identity", "relu:32"} == {line["lift"] for line in model.selection_}
    assert any(line["t"] == 0.0 and line["tau"] == 0.0 and line["lift"] == "identity" for line in model.selection_)
    least = min(model.selection_, key=lambda line: line["loo_mse"])  # type: ignore[arg-type, return-value]
    assert model.setting_ == Setting(**{name: least[name] for name in AXES})  # type: ignore[arg-type]
    again = Carrot("toy", **{**model.setting_.to_dict()}).fit(birds)
    np.testing.assert_allclose(again.head_.W_star, model.head_.W_star, rtol=1e-9, atol=1e-9)
    printed = capsys.readouterr().out
    assert "chosen" in printed
    assert printed.count("\n") == 1 + 1 + 3 + 1, "the best of the one kind, how many more, what words mean, t at an end"
    assert "5 more settings" in printed


@pytest.mark.usefixtures("as_user")
def test_numbers_of_numpy_and_torch_can_be_saved(birds: ToyBirds, tmp_path: Path) -> None:
    numbers = {"t": np.float32(1.5), "coarsen": np.int64(2), "tau": torch.tensor(0.5), "lam": np.float32(0.5)}
    model = Carrot("toy", lift="relu:32", **numbers).fit(birds)  # type: ignore[arg-type]
    model.save(tmp_path / "m")
    expected = Setting("relu:32", 0.5, 0.5, 1.0, 1.5, 0.0, 2)
    assert model.setting_ == Carrot.load(tmp_path / "m").setting_ == expected
    assert {name: type(x) for name, x in model.setting_.to_dict().items()} == {
        name: type(x) for name, x in expected.to_dict().items()
    }
    grid = {"t": np.array([1]), "coarsen": np.array([2, 5]), "lift": ["relu:32"], "tau": np.array([0.5], dtype="f4")}
    Carrot("toy").select(birds, grid=grid, show=False).save(tmp_path / "s")


@pytest.mark.parametrize("blocks", [[2, 5], [5], [1, 2], [2, 1]])
def test_select_takes_no_blocks_that_were_not_asked_for(birds: ToyBirds, blocks: list[int]) -> None:
    model = Carrot("toy").select(birds, grid={"coarsen": blocks, "lift": ["relu:32"], "tau": [0.5], "t": [1.0]})
    assert {line["coarsen"] for line in model.selection_} == set(blocks)
    means = [line for line in model.selection_ if line["lift"] == "identity" and line["tau"] == line["t"] == 0.0]
    assert len(means) == 1, "the mean of the tokens as they are competes"


@pytest.mark.usefixtures("as_user")
def test_bad_grids_and_settings(birds: ToyBirds) -> None:
    with pytest.raises(ValueError, match="colour"):
        Carrot("toy").select(birds, grid={"colour": [1]})
    with pytest.raises(ValueError, match="at least one value"):
        Carrot("toy").select(birds, grid={"lift": []})
    for arguments, message in (
        ({"dtype": "float64"}, "float16"),
        ({"lam": -1.0}, "lam"),
        ({"lift": "cubic"}, "cubic"),
        ({"t": -1.0}, "t"),
        ({"coarsen": 0}, "coarsen"),
    ):
        with pytest.raises(ValueError, match=message):
            Carrot("toy", **arguments)  # type: ignore[arg-type]
    with pytest.raises(carrot.NotFittedError, match="fit"):
        Carrot("toy").predict("a.png")
    with pytest.raises(TypeError, match="data"):
        Carrot("toy").fit(3)


def test_labels_by_name_and_pictures_at_hand(birds: ToyBirds) -> None:
    n = SPECIES * N_TRAIN
    images = [birds.image(i) for i in range(n)]
    names = [birds.classes[record.label] for record in birds.records[:n]]
    model = Carrot("toy", lift="identity").fit(images, names)
    assert set(model.classes_) == set(birds.classes)
    assert list(model.predict(images)) == names or model.score(images, names) > 0.8
    with pytest.raises(ValueError, match="Did you mean"):
        model.explain(images[0], target=names[0][:-1])


def test_an_unreadable_picture_is_set_aside_and_a_class_without_any_is_named(birds: ToyBirds, tmp_path: Path) -> None:
    root = tmp_path / "birds"
    for i in range(SPECIES * N_TRAIN):
        folder = root / f"c{birds.records[i].label}"
        folder.mkdir(parents=True, exist_ok=True)
        birds.image(i).save(folder / f"{i:02d}.png")
    (root / "c1" / "00.png").write_bytes(b"not a picture")
    model = Carrot("toy", lift="identity").fit(root)
    assert list(model.set_aside_) == ["c1/00.png"]
    assert len(model.records_) == SPECIES * (N_TRAIN - 1), (
        "every fifth of 6 or 7 is for testing; the broken one is aside"
    )
    again = fresh(model, tmp_path / "m")
    assert again.set_aside_ == model.set_aside_
    e = again.explain(root / "c2" / "13.png")
    assert len(e.shown_pictures) == 4, "found by their paths"
    assert max(map(abs, e.residual.values())) < 1e-5, "tokens computed again, in batches of one: float16 steps"
    for path in (root / "c3").iterdir():
        path.write_bytes(b"")
    with pytest.raises(carrot.DataError, match="'c3'"):
        Carrot("toy").fit(root)


def test_a_training_picture_that_is_gone_or_changed_is_told_apart(birds: ToyBirds, tmp_path: Path) -> None:
    root = tmp_path / "birds"
    for i in range(SPECIES * N_TRAIN):
        path = root / f"c{birds.records[i].label}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        birds.image(i).save(path)
    Carrot("toy", lift="identity").fit(root, tokens=tmp_path / "tokens").save(tmp_path / "m")
    picture = birds.image(13)
    rows = Carrot.load(tmp_path / "m").explain(picture).shown
    records = [Carrot.load(tmp_path / "m").records_[row] for row in rows]
    Path(records[0].path).unlink()
    birds.image(0).save(records[1].path)
    Path(records[2].path).write_bytes(b"")
    e = Carrot.load(tmp_path / "m").explain(picture)
    assert e.missing == {rows[0]: NOT_FOUND, rows[1]: CHANGED, rows[2]: CHANGED}
    assert set(e.shown_pictures) == {rows[3]}
    assert set(e.pair_maps) == set(rows), "their tokens were kept"
    assert f"not shown: the picture {records[0].id}: {NOT_FOUND}" in e.proof()
    shown: Any = e.to_dict()["training"]
    assert [part["missing"] for part in shown["shown"]] == [NOT_FOUND, CHANGED, CHANGED, None]
    words = [text.get_text() for axis in e.plot().axes for text in axis.texts]
    assert sum("not shown" in text for text in words) == 3


@pytest.mark.parametrize("n", [N_TRAIN, 40])
def test_what_is_loaded_says_the_same_to_the_last_bit(n: int, tmp_path: Path) -> None:
    """In the dual form, and with more pictures than features in the primal one."""
    birds = ToyBirds(n_train_per_class=n, n_test_per_class=2, n_species=3)
    model = Carrot("toy", lift="identity", t=1.0).fit(birds)
    assert model.head_.is_dual == (n == N_TRAIN)
    pictures = [birds.image(i) for i in range(3 * n, 3 * n + 6)]
    for step in ("fit", "forget", "add"):
        if step == "forget":
            model.forget(model.records_[0].id)
        if step == "add":
            model.add(pictures[:1], [model.classes_[0]])
        again = fresh(model, tmp_path / step)
        assert np.array_equal(again.decision_function(pictures), model.decision_function(pictures)), step
        assert np.array_equal(again.predict_proba(pictures), model.predict_proba(pictures)), step


def test_damaged_tokens_are_told_and_computed_again(birds: ToyBirds, tmp_path: Path) -> None:
    model = Carrot("toy", lift="identity").fit(birds, tokens=tmp_path)
    expected = model.explain(birds.image(0))
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="is damaged.*computed again from the picture"):
        found = Carrot.explain(model, birds.image(0))
    for row, pairs in expected.pair_maps.items():
        torch.testing.assert_close(found.pair_maps[row], pairs, rtol=0, atol=1e-5)  # batches of one: float16 steps


def test_pictures_without_names_are_added_twice(birds: ToyBirds, fitted: Carrot, tmp_path: Path) -> None:
    model, tests = fresh(fitted, tmp_path), test_pictures(birds)
    for picture in tests[:2]:
        model.add([picture], [model.classes_[0]])
    assert [record.id for record in model.records_[-2:]] == ["picture 0", "picture 1"]
    model.forget("picture 0")
    model.add(tests[2:4], [model.classes_[0]] * 2)
    assert [record.id for record in model.records_[-3:]] == ["picture 1", "picture 2", "picture 3"]


def test_an_array_of_paths_is_pictures(birds: ToyBirds, fitted: Carrot, tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for k, path in enumerate(paths):
        birds.image(k).save(path)
    for array in (np.array([str(path) for path in paths]), np.array(paths, dtype=object)):
        assert list(fitted.predict(array)) == list(fitted.predict(paths))


@pytest.fixture
def classes(birds: ToyBirds, fitted: Carrot, tmp_path: Path) -> Path:
    """A folder of class folders: two test pictures of each class, and one that the model was fitted on."""
    own, test = ([i for i, r in enumerate(birds.records) if r.split == side] for side in ("train", "test"))
    for k, i in enumerate([*test[:4], own[0]]):
        place = tmp_path / "classes" / birds.classes[birds.records[i].label]
        place.mkdir(parents=True, exist_ok=True)
        birds.image(i).save(place / f"{k + 8}.png")
    return tmp_path / "classes"


def test_a_folder_is_the_pictures_in_it_in_natural_order(fitted: Carrot, classes: Path) -> None:
    paths = carrot.data.pictures_in(classes)
    assert paths == sorted(paths, key=lambda path: (path.parent.name, int(path.stem)))
    assert len(paths) == 5
    assert list(fitted.predict(classes)) == list(fitted.predict(paths))
    assert np.array_equal(fitted.predict_proba([str(classes)]), fitted.predict_proba(paths))
    assert np.array_equal(fitted.decision_function(classes), fitted.decision_function(paths))
    (classes / "empty").mkdir()
    with pytest.raises(carrot.DataError, match="holds no picture that is read"):
        fitted.predict(classes / "empty")
    (classes / "empty" / "a.heic").touch()
    with pytest.warns(UserWarning, match="1 passed over; the first: empty/a.heic: HEIC"):
        fitted.predict(classes)


def test_the_score_of_a_data_set_is_its_accuracy(fitted: Carrot, classes: Path) -> None:
    paths = carrot.data.pictures_in(classes)
    labels = [path.parent.name for path in paths]
    right = fitted.predict(paths) == np.array(labels)
    assert fitted.score(paths, labels) == pytest.approx(right.mean())
    assert fitted.score(classes) == pytest.approx(right.mean())  # none of these bytes was fitted on
    with pytest.raises(ValueError, match=re.escape(f"model.score({str(classes)!r})")):
        fitted.score(classes, labels)
    with pytest.raises(ValueError, match="`y` is missing"):
        fitted.score(paths)


@pytest.mark.usefixtures("as_user")
def test_what_takes_one_picture_says_what_to_write_for_a_folder(fitted: Carrot, classes: Path) -> None:
    with pytest.raises(carrot.UnreadableImageError, match=r"it is a folder; give the pictures in it: \[model.explain"):
        fitted.explain(classes)
    with pytest.raises(AttributeError, match=r"no 'evaluate'. Did you mean score\(DATA\)"):
        fitted.evaluate  # noqa: B018
    with pytest.raises(carrot.NotFittedError, match="call `fit`"):
        Carrot("toy").score(classes)


def test_labels_beside_a_folder_are_refused(tmp_path: Path) -> None:
    for data in (tmp_path, "cub:nowhere", "toy"):
        with pytest.raises(ValueError, match="whose labels are its own"):
            Carrot("toy").fit(data, ["a", "b"])
    with pytest.raises(carrot.DataError, match="no training picture that can be read"):
        Carrot("toy").fit(["missing.jpg", "gone.jpg"], ["a", "b"])


def test_it_says_what_it_is(fitted: Carrot) -> None:
    assert repr(Carrot("toy")).endswith("not fitted>")
    assert f"fitted on {len(fitted.records_)} pictures of {SPECIES} classes" in repr(fitted)
    assert str(fitted.setting_) in repr(fitted)


def test_facts_are_json_and_the_card_states_them(fitted: Carrot) -> None:
    facts = json.loads(json.dumps(fitted.facts(), allow_nan=False))
    assert facts["training_pictures"] == SPECIES * N_TRAIN
    card = str(fitted.generate_model_card())
    assert f"{fitted.fitted.leave_one_out()['loo_accuracy']:.4g}" in card


def test_a_hub_folder_comes_back(birds: ToyBirds, fitted: Carrot, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "hub")
    assert (tmp_path / "hub" / "README.md").is_file()
    again = Carrot.from_pretrained(tmp_path / "hub")
    image = test_pictures(birds)[0]
    np.testing.assert_array_equal(again.decision_function(image), fitted.decision_function(image))


def test_numbers_are_names_where_classes_are_named_by_numbers(birds: ToyBirds) -> None:
    images = [birds.image(i) for i in range(2 * N_TRAIN)]
    labels = [1] * N_TRAIN + [2] * N_TRAIN
    model = Carrot("toy", lift="identity").fit(images, labels)
    assert model.classes_.tolist() == [1, 2]
    assert model.score(images, labels) == model.score(images, [str(c) for c in labels]) > 0.8
    assert model.score(images, np.array(labels)) > 0.8
    model.add(birds.image(2 * N_TRAIN), [1], ["n"])
    assert model.records_[-1].label == 0
    assert model.explain(images[0], target=np.int64(2)).target == "2"
    with pytest.raises(ValueError, match="no class"):
        model.score(images[:1], [0])


def test_a_copy_and_a_name_that_is_none_are_not_added(birds: ToyBirds, fitted: Carrot, tmp_path: Path) -> None:
    model = fresh(fitted, tmp_path / "m")
    with pytest.raises(ValueError, match="over again"):
        model.add(birds.image(4), [birds.records[4].label], ["another name"])
    with pytest.raises(TypeError, match="ids"):
        model.add(birds.image(SPECIES * N_TRAIN), [0], [7])  # type: ignore[list-item]
    assert len(model.records_) == len(fitted.records_)


def test_a_folder_is_found_again_from_anywhere(
    birds: ToyBirds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2 * N_TRAIN):
        folder = tmp_path / "data" / f"c{birds.records[i].label}"
        folder.mkdir(parents=True, exist_ok=True)
        birds.image(i).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    model = Carrot("toy", lift="identity").fit("data")
    assert model.facts()["data"] == str(tmp_path / "data")
    assert Carrot("toy", lift="identity").fit("folder:data").facts()["data"] == f"folder:{tmp_path / 'data'}"


@pytest.mark.usefixtures("as_user")
def test_the_constructor_refuses_early() -> None:
    for arguments, message in (
        ({"crop": "nope"}, "crop"),
        ({"tau": -1.0}, "tau"),
        ({"sigma_spatial": 0.0}, "sigma_spatial"),
        ({"global_share": 2.0}, "share"),
        ({"device": "banana"}, "banana"),
    ):
        with pytest.raises(ValueError, match=message):
            Carrot("toy", **arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="backbone"):
        Carrot(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="divide the grid"):
        Carrot("toy", coarsen=3).fit(ToyBirds(2, 0, 2))
