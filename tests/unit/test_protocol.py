"""The evaluation protocol and the exported table, against what the model itself says of each picture."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

from carrot import Carrot, DataError, DiffusionOperator
from carrot._ridge.logit import Logit
from carrot.classifier.held_out import held_out
from carrot.data import ImageFolder
from carrot.data.records import Box, Subset
from carrot.data.toy import ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.evaluation.agreement import random_subsets
from carrot.evaluation.calibration import probabilities
from carrot.evaluation.faithfulness import order_of
from carrot.explanation.parts import take_apart
from carrot.export.table import held_out_rows, training_rows, write_table
from carrot.lift import lift_from
from carrot.protocol import evaluate
from carrot.protocol.explanations import measure_explanations
from carrot.protocol.pixel_level import passes
from carrot.protocol.tables import lines_of, markdown_of
from carrot.readout import BoundReadout
from carrot.removal import remove_regions
from tests.reference import flagged_labels

pytestmark = pytest.mark.usefixtures("surveyed_once")

BIRDS = ToyBirds(n_train_per_class=8, n_test_per_class=3, n_species=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/ and test/; one test picture is a training picture over again."""
    folder = tmp_path_factory.mktemp("birds")
    for index, record in enumerate(BIRDS.records):
        path = folder / record.split / f"species {record.label}" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        BIRDS.image(index).save(path)
    copy = folder / "train" / "species 1" / "09.png"
    with Image.open(copy) as image:
        image.save(folder / "test" / "species 1" / "99.png", compress_level=1)  # other bytes, the same picture
    return folder


@pytest.fixture(scope="module")
def model(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Carrot, Path]:
    folder = tmp_path_factory.mktemp("model")
    model = Carrot("toy", lift="quadratic", tau=0.5, t=1.0).fit(root, tokens=folder / "tokens")
    model.save(folder)
    return model, folder


@pytest.fixture(scope="module")
def answer(model: tuple[Carrot, Path], root: Path) -> dict:
    return evaluate(model[0], str(root), model[1], explained=4, occluded=2, refits=3)


def test_accuracy_classes_and_confusions_are_those_of_the_predictions(
    model: tuple[Carrot, Path], root: Path, answer: dict
) -> None:
    data = ImageFolder(root)
    test = [i for i, record in enumerate(data.records) if record.split == "test"]
    said = model[0].predict([data.image(i) for i in test])
    true = [data.classes[data.records[i].label] for i in test]
    assert answer["accuracy"]["n"] == len(test) == 10
    assert answer["accuracy"]["top1"] == pytest.approx(np.mean([a == b for a, b in zip(said, true, strict=True)]))
    for row in answer["classes"]:
        own = [a == row["name"] for a, b in zip(said, true, strict=True) if b == row["name"]]
        assert row["n"] == len(own)
        assert row["accuracy"] == pytest.approx(np.mean(own))
    wrong = sum(a != b for a, b in zip(said, true, strict=True))
    assert sum(pair["count"] for pair in answer["confusions"]) == wrong
    p = model[0].predict_proba([data.image(i) for i in test])
    nll = -np.mean([np.log(p[k, data.records[i].label]) for k, i in enumerate(test)])
    assert answer["calibration"]["negative_log_likelihood"] == pytest.approx(
        nll, abs=1e-4
    )  # float32 tokens, other batches


def test_pictures_that_the_model_was_fitted_on_are_no_test_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The split of a folder shifts when a picture is deleted: what was for training is then for testing."""
    root = tmp_path / "birds"
    for index, record in enumerate(BIRDS.records):
        path = root / f"species {record.label}" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        BIRDS.image(index).save(path)
    model = Carrot("toy", lift="identity").fit(root)
    fitted_on = {record.id for record in model.records_}
    held_out = [record.id for record in ImageFolder(root).records if record.id not in fitted_on]
    (root / "species 0" / "00.png").unlink()
    now = [record.id for record in ImageFolder(root).records if record.split == "test"]
    shifted = [name for name in now if name in fitted_on]
    assert shifted, "the premise"
    found = evaluate(model, str(root), tmp_path, explained=0, refits=0, baselines=False)
    assert found["left_out"] == shifted
    n = len(set(now) & set(held_out))
    assert found["accuracy"]["n"] == n == len(now) - len(shifted)
    left_out = {"the model was fitted on them": len(shifted), "for training, by the split": 32 - len(now)}
    assert found["counts"] == {"pictures": 32, "used": n, "left_out": left_out, "set_aside": 0}
    assert any(
        f"{n} measured, {len(shifted)} left out (the model was fitted on them)" in line for line in lines_of(found)
    )
    rows: list[int] = []
    monkeypatch.setattr("carrot.protocol.measure.knn", lambda G, labels, g, C: rows.append(len(G)) or g[:, :C])
    evaluate(model, str(root), tmp_path, explained=0, refits=0)
    assert set(rows) == {len(fitted_on) - 1}, "baselines have what the model has, but for the file that is gone"
    whole = Carrot("toy", lift="identity").fit(ImageFolder(root, test_every=None))
    with pytest.raises(DataError, match="fitted on every one of its 32 pictures"):
        evaluate(whole, str(root), tmp_path, explained=0, refits=0, baselines=False)


@pytest.fixture
def other(root: Path, tmp_path: Path) -> Path:
    """A folder to be measured: one class of the model's is missing, one is unknown to it.

    One picture it was fitted on, one is broken.
    """
    folder = tmp_path / "other"
    for index, record in enumerate(BIRDS.records):
        if record.split == "test" and record.label < 2:
            path = folder / f"species {record.label}" / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            BIRDS.image(index).save(path)
    (folder / "eagle").mkdir()
    BIRDS.image(0).save(folder / "eagle" / "1.png")
    shutil.copy(root / "train" / "species 1" / "09.png", folder / "species 1" / "of another name.png")
    (folder / "species 0" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize("kind", ["folder", "table", "one class"])
def test_data_without_a_split_of_its_own_is_measured_whole(
    model: tuple[Carrot, Path], other: Path, tmp_path: Path, kind: str
) -> None:
    """A fifth of it used to be measured: 1 picture of 6."""
    data, expected = other, {"eagle": 1}
    if kind == "table":
        data = other / "all.csv"
        files = sorted(path.relative_to(other).as_posix() for path in other.rglob("*.png"))
        data.write_text("image,label\n" + "".join(f"{name},{name.split('/')[0]}\n" for name in files))
    if kind == "one class":
        for name in ("species 1", "eagle"):
            shutil.rmtree(other / name)
        expected = {}
    n = 3 if kind == "one class" else 6
    left_out = 0 if kind == "one class" else 1
    found = evaluate(model[0], str(data), tmp_path, explained=0, refits=0)
    assert found["accuracy"]["n"] == n
    assert found["counts"]["used"] == n
    assert found["counts"]["set_aside"] == len(found["set_aside"]) == 1
    assert found["unknown_classes"] == expected
    wanted = {"the model was fitted on them": left_out, "of classes that the model doesn't know": len(expected)}
    assert found["counts"]["left_out"] == {reason: count for reason, count in wanted.items() if count}
    assert found["counts"]["pictures"] == n + 1 + left_out + len(expected)
    assert not found["data"]["is_own"]
    said = [model[0].predict(path)[0] == path.parent.name for path in other.rglob("[0-9][0-9].png")]
    assert found["accuracy"]["top1"] == pytest.approx(np.mean(said))
    assert found["baselines"]["mean (t = 0), ridge"]["n"] == n, "fitted on the model's own pictures"
    again = evaluate(model[0], str(data), tmp_path, explained=0, refits=0, baselines=False)
    assert again["set_aside"].keys() == found["set_aside"].keys(), "also where tokens were kept"


def test_data_with_a_split_of_its_own_keep_it(model: tuple[Carrot, Path], root: Path, answer: dict) -> None:
    assert answer["counts"] == {
        "pictures": 34,
        "used": 10,
        "left_out": {"for training, by the split": 24},
        "set_aside": 0,
    }
    assert answer["data"]["is_own"]
    table = root / "all.csv"
    lines = [f"{record.id},{record.id.split('/')[1]},{record.split}\n" for record in ImageFolder(root).records]
    table.write_text("image,label,split\n" + "".join(lines))
    found = held_out(model[0].classifier, f"csv:{table}", model[1] / "tokens")
    table.unlink()
    assert found.counts.to_dict() == answer["counts"]


def test_the_copy_is_told_and_left_out(answer: dict) -> None:
    leaks = answer["leaks"]
    assert [pair["test"] for pair in leaks["pairs"]] == ["test/species 1/99.png"]
    assert leaks["pairs"][0]["training"] == "train/species 1/09.png"
    assert not leaks["pairs"][0]["same_file"]
    assert leaks["accuracy_without"]["n"] == 9
    assert any("over again" in line for line in lines_of(answer))


def test_explanations_add_up_and_curves_are_real_removals(model: tuple[Carrot, Path], root: Path, answer: dict) -> None:
    e = answer["explanations"]
    assert e["pictures"] == 4
    assert max(e["largest_residual"].values()) < 1e-12
    assert {name: check["n"] for name, check in answer["checks"].items()} == {"leave_one_out": 3, "group_removal": 1}
    for name, check in answer["checks"].items():
        assert check["largest"] < 1e-11
        assert any(line.startswith(f"check, {name}: {check['n']} against real fits") for line in lines_of(answer))
    # the mean area of deletion by token, by removing regions one after the other
    carrot, _ = model
    data = ImageFolder(root)
    test = [i for i, record in enumerate(data.records) if record.split == "test"]
    areas = []
    s, lift, operator = carrot.setting_, lift_from("quadratic"), DiffusionOperator(1.0)
    for k in range(4):
        trace = carrot.trace(data.image(test[k * 10 // 4]))
        parts = take_apart(trace, Logit.predicted(carrot.head_, trace.g))
        order = parts.token.argsort(descending=True)
        keep, curve = torch.ones(100, 1, dtype=torch.bool), []
        for step in range(101):
            logits = remove_regions(trace.H, trace.graph, operator, BoundReadout(trace.r), carrot.head_, keep, lift)
            curve.append(float(logits[0, parts.target]))
            if step < 100:
                keep[order[step]] = False
        areas.append(np.trapezoid(curve, dx=0.01))
    assert s.t == 1.0
    assert e["token_level"]["token level, deletion by token"]["mean"] == pytest.approx(np.mean(areas), abs=1e-3)
    assert e["pixel_level"]["pixel level, deletion by drop"]["n"] == 2
    for level, at in (("token_level", "token level"), ("pixel_level", "pixel level")):
        for name in ("token", "node", "drop"):
            gone, shown, gain = (e[level][f"{at}, {kind} by {name}"] for kind in ("deletion", "insertion", "gain"))
            assert gain["mean"] == pytest.approx(shown["mean"] - gone["mean"], abs=1e-9)
            assert gain["n"] == gone["n"]


def test_what_maps_foretell_is_held_against_real_removals(model: tuple[Carrot, Path], root: Path, answer: dict) -> None:
    """Of the four explained pictures: 10, 30 or 50 of 100 tokens dropped, by the place as seed, and each alone."""
    carrot, _ = model
    data, operator, lift = ImageFolder(root), DiffusionOperator(1.0), lift_from("quadratic")
    test = [i for i, record in enumerate(data.records) if record.split == "test"]
    correlations, ranks, errors = [], [], []
    for k in range(4):
        place = k * 10 // 4
        trace = carrot.trace(data.image(test[place]))
        parts = take_apart(trace, Logit.predicted(carrot.head_, trace.g))
        stages = trace.H, trace.graph, operator, BoundReadout(trace.r), carrot.head_
        keep = torch.cat([random_subsets(100, n, 32, place) for n in (10, 30, 50)] + [~torch.eye(100).bool()], dim=1)
        drop = parts.logit - remove_regions(*stages, keep, lift)[:, parts.target].numpy()
        foretold = np.array([float(parts.token[~column].sum()) for column in keep.T])
        correlations.append(np.corrcoef(foretold[32:64], drop[32:64])[0, 1])
        errors.append(np.mean((foretold[:96] - drop[:96]) ** 2))
        ranks.append(spearmanr(foretold[96:], drop[96:]).statistic)
    e = answer["explanations"]["token_level"]
    names = ("sensitivity to 30% by token", "infidelity by token", "single deletion by token")
    for name, values in zip(names, (correlations, errors, ranks), strict=True):
        found = e[f"token level, {name}"]
        assert found["n"] == 4
        assert found["mean"] == pytest.approx(np.mean(values), abs=1e-6)  # of tokens in other batches, in float32
    assert "token level, single deletion by drop" not in e


def test_pixel_level_is_deletion_by_painting_the_picture(model: tuple[Carrot, Path], root: Path, answer: dict) -> None:
    """The first two explained pictures, patch by patch; 100 regions go in 14 steps, which are not equally wide."""
    carrot, _ = model
    data, backbone = ImageFolder(root), carrot.encoder.backbone
    test = [i for i, record in enumerate(data.records) if record.split == "test"]
    counts = [round(100 * k / 14) for k in range(15)]
    areas = []
    for k in range(2):
        image = data.image(test[k * 10 // 4])
        trace = carrot.trace(image)
        parts = take_apart(trace, Logit.predicted(carrot.head_, trace.g))
        order, x = order_of(parts.token).tolist(), backbone.transform(image)
        side = x.shape[-1] // 10
        batch = x.repeat(15, 1, 1, 1)
        for step, n in enumerate(counts):
            for region in order[:n]:
                row, column = divmod(region, 10)
                batch[step, :, side * row : side * (row + 1), side * column : side * (column + 1)] = 0.0
        curve = carrot.classifier.logits_of(carrot.encoder.encode(batch))[:, parts.target]
        areas.append(np.trapezoid(curve, x=np.array(counts) / 100))
    found = answer["explanations"]["pixel_level"]["pixel level, deletion by token"]
    assert found["mean"] == pytest.approx(np.mean(areas), abs=1e-4)


def test_the_backbone_runs_as_often_as_is_said(
    model: tuple[Carrot, Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import carrot.protocol.measure

    sizes, encode = list[int](), Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, x: sizes.append(len(x)) or encode(self, x))
    monkeypatch.setattr(carrot.protocol.measure, "time_stages", lambda classifier: {})
    shutil.copytree(model[1] / "tokens", tmp_path / "tokens")
    evaluate(model[0], str(root), tmp_path, explained=2, occluded=2, refits=0, baselines=False)
    assert sum(sizes) == passes(model[0].classifier, 2) == 2 * 4 * 2 * 14


def test_maps_are_measured_beside_the_centre(model: tuple[Carrot, Path], root: Path) -> None:
    """Of 10 x 10 regions the four in the middle tie: one of them alone in the box is a quarter of a hit."""
    classifier = model[0].classifier
    found = held_out(classifier, str(root), model[1] / "tokens")
    box, points = Box(64.0, 64.0, 16.0, 16.0), {"eye": (72.0, 72.0), "beak": (88.0, 72.0)}
    test = Subset(found.dataset, found.test.indices)
    test.records = [replace(record, box=box, parts=points) for record in test.records]
    e = measure_explanations(classifier, test, found.cache, found.places[:2], 0)["localisation"]
    pointing, part = e["where: pointing in the box by the centre"], e["where: pointing at a part by the centre"]
    assert (pointing.score.mean, pointing.chance.mean, pointing.score.n) == (0.25, 0.01, 2)
    assert (part.score.mean, part.chance.mean) == (0.5, 0.02)
    rank, auc = e["where: rank accuracy, box, by the centre"], e["where: AUC, box, by the centre"]
    assert (rank.score.mean, rank.chance.mean) == (0.25, pytest.approx(0.01))
    assert (auc.score.mean, auc.chance.mean) == (pytest.approx((96 + 3 / 2) / 99), 0.5)
    near = e["where: peak near a part by the centre"]  # 25.7 pixels reach the next region's centre, 16 away: 3 x 4
    assert (near.score.mean, near.chance.mean) == (1.0, pytest.approx(0.12))
    d = torch.arange(10) - 4.5  # in regions; a quarter of ten wide
    gaussian = torch.exp(-0.5 * ((d / 2.5).square()[:, None] + (d / 2.5).square())).double()
    energy = e["where: energy in the box by the centre"].score.mean
    assert energy == pytest.approx(float(gaussian[4, 4] / gaussian.sum()), rel=1e-6)
    assert {name.rpartition(" by ")[2] for name in e} == {"token", "node", "drop", "the centre"}


def test_fewer_regions_than_steps_go_one_by_one(root: Path, tmp_path: Path) -> None:
    """A grid of 2 x 2 regions used to end the command: `steps` must be a whole number in 1 .. 4."""
    few = Carrot("toy", lift="identity", t=0.0, coarsen=5).fit(root, tokens=tmp_path / "tokens")
    found = evaluate(few, str(root), tmp_path, explained=1, occluded=1, refits=0, baselines=False)
    assert found["checks"] == {}
    assert found["explanations"]["pixel_level"]["pixel level, deletion by token"]["n"] == 1
    assert passes(few.classifier, 1) == 3 * 2 * 4


def test_the_answer_is_json_and_tables_hold_it(answer: dict) -> None:
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    text = markdown_of(answer)
    assert f"{answer['accuracy']['top1']:.3f}" in text
    assert "crop 'squash'" in text
    assert all(
        line.count("|") == text.splitlines()[i - 1].count("|")
        for i, line in enumerate(text.splitlines())
        if set(line) <= set("|-: ") and line
    )
    ours, theirs = (answer["baselines"][f"class token, {name}"] for name in ("ridge", "ridge by scikit-learn"))
    assert ours["top1"] == pytest.approx(theirs["top1"], abs=0.11), "lam from another grid; one of ten pictures"
    assert {"class token, ridge", "mean (t = 0), kNN", "mean (t = 0), logistic regression"} <= set(answer["baselines"])


def test_other_classes_and_empty_sets_are_refused(model: tuple[Carrot, Path], tmp_path: Path) -> None:
    for name in ("eagle", "owl"):
        for k in range(5):
            (tmp_path / name).mkdir(exist_ok=True)
            BIRDS.image(k).save(tmp_path / name / f"{k}.png")
    with pytest.raises(DataError, match="'eagle'"):
        evaluate(model[0], str(tmp_path), model[1])
    with pytest.raises(ValueError, match="explained"):
        evaluate(model[0], str(tmp_path), model[1], explained=-1)


def test_the_table_names_what_each_picture_is_made_of(model: tuple[Carrot, Path], root: Path, tmp_path: Path) -> None:
    carrot, folder = model
    found = held_out(carrot.classifier, str(root), folder / "tokens")
    rows = training_rows(carrot.fitted, influences=2) + held_out_rows(carrot.fitted, found, influences=2)
    assert [row["split"] for row in rows] == ["train"] * 24 + ["test"] * 10
    loo = carrot.head_.loo_predict()
    flags = flagged_labels(probabilities(loo, carrot.temperature_), carrot.fitted.labels.tolist())
    for i in (0, 11, 23):
        row = rows[i]
        assert row["predicted"] == carrot.classes_[int(loo[i].argmax())]
        assert row["suspect"] == flags[i]
        assert row["influence_1"] != row["id"], "a training picture never names itself"
    data = ImageFolder(root)
    index = {record.id: i for i, record in enumerate(data.records)}
    for row in rows[24:27]:
        e = carrot.explain(data.image(index[row["id"]]))
        assert row["predicted"] == e.target
        most = int(e.parts.dual.argmax())
        assert row["influence_1"] == e.training_ids[most]
        assert row["influence_1_dual"] == pytest.approx(float(e.parts.dual[most]), abs=1e-5)
        assert row["probability"] == pytest.approx(float(e.probabilities.max()), abs=1e-4)
    write_table(tmp_path / "t.csv", rows)
    with open(tmp_path / "t.csv", newline="") as file:
        back = list(csv.DictReader(file))
    assert [row["id"] for row in back] == [row["id"] for row in rows]
    assert [float(row["margin"]) for row in back] == [row["margin"] for row in rows]


def test_parquet_holds_the_same(model: tuple[Carrot, Path], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install '.[export]'")
    rows = training_rows(model[0].fitted)
    write_table(tmp_path / "t.parquet", rows)
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == rows


def test_a_table_of_a_data_set_without_test_pictures_is_refused(model: tuple[Carrot, Path], tmp_path: Path) -> None:
    carrot, folder = model
    for name in ("a", "b"):
        (tmp_path / "few" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "few" / name / "1.png")
    with pytest.raises(DataError, match=r"2 are of the classes 'a', 'b', which it doesn't know"):
        held_out(carrot.classifier, str(tmp_path / "few"), folder / "tokens")


def test_accuracy_is_told_before_explanations_begin(
    model: tuple[Carrot, Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("carrot.protocol.measure.measure_explanations", interrupted)
    monkeypatch.setattr("carrot.protocol.measure.time_stages", lambda *_: {"backbone": 1.0})
    told: list[tuple[str, str]] = []

    def done(answer: dict, phase: str) -> None:
        told.append((phase, "\n".join(lines_of(answer, phase))))

    with pytest.raises(KeyboardInterrupt):
        evaluate(model[0], str(root), tmp_path, explained=4, refits=1, done=done)
    assert [phase for phase, _ in told] == ["accuracy", "baselines", "checks"]
    assert "top-1" in told[0][1]
    assert "kNN" in told[1][1]
    assert "kNN" not in told[0][1]
    assert "against real fits" in told[2][1]
