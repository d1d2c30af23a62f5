"""The training pictures that many answers lean on, held against fits without each; and the command that tells them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import carrot.classifier.top_training as module
from carrot import Carrot, RidgeHead, cli
from carrot.classifier.top_training import TopTraining
from carrot.data.toy import ToyBirds
from carrot.engine import use
from tests.unit.test_passes import Shuffled

BIRDS = ToyBirds(n_train_per_class=5, n_test_per_class=2, n_species=3)
NEW = [i for i, record in enumerate(BIRDS.records) if record.split == "test"]


@pytest.fixture(scope="module", params=["identity", "quadratic"])
def model(request: pytest.FixtureRequest) -> Carrot:
    labels = [record.label for record in BIRDS.records if record.split == "train"]
    labels[0] = (labels[0] + 1) % 3  # a doubtful one
    pictures = [BIRDS.image(i) for i, record in enumerate(BIRDS.records) if record.split == "train"]
    return Carrot("toy", coarsen=2, lift=request.param).fit(pictures, [BIRDS.classes[c] for c in labels])


@pytest.fixture(scope="module")
def folder(model: Carrot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    model.save(folder / "model")
    (folder / "new").mkdir()
    for i in NEW:
        BIRDS.image(i).save(folder / "new" / f"{i:03}.png")
    return folder


def falls(model: Carrot, g: Tensor, target: int, against: int | None = None) -> np.ndarray:
    """What one logit loses by really fitting without each training picture."""
    head = model.head_
    own, lost = (head.G, head.labels, head.sample_weight), []
    for i in range(len(head.G)):
        other = RidgeHead(head.lam, True).fit(*(torch.cat([x[:i], x[i + 1 :]]) for x in own))
        lost.append(head.predict(g) - other.predict(g))
    each = np.stack(lost)
    return each[:, target] - (0.0 if against is None else each[:, against])


@pytest.mark.parametrize("way", ["predicted", "target", "against"])
def test_they_are_those_of_real_fits(model: Carrot, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, classes = [BIRDS.image(i) for i in NEW], list(model.classes_)
    two = {"target": classes[1], "against": classes[0]}
    given = {"predicted": {}, "target": {"target": classes[1]}, "against": two}
    found = model.top_training(pictures, 4, **given[way])
    ids = [record.id for record in model.records_]
    doubtful = {s.id: s.suggested for s in model.audit().doubtful}
    assert len(found.answers) == len(NEW)
    for g, answer in zip(torch.cat(list(model.classifier.embedded(pictures))), found.answers, strict=True):
        says = int(model.head_.predict(g).argmax()) if way == "predicted" else 1
        assert answer.target == classes[says]
        lost = falls(model, g, says, 0 if way == "against" else None)
        for some, sign in ((answer.fall, 1), (answer.rise, -1)):
            best = [i for i in np.argsort(-sign * lost)[:4] if sign * lost[i] > 0]
            assert [one.id for one in some] == [ids[i] for i in best]
            np.testing.assert_allclose([one.effect for one in some], lost[best], rtol=1e-7, atol=1e-12)
            assert all(one.doubtful == doubtful.get(one.id) for one in some)
    monkeypatch.setattr(module, "ROOM", 1)  # a pass for each batch
    apart = [model.top_training([picture], 4, **given[way]).answers[0] for picture in pictures]
    for a, b in zip(found.answers, apart, strict=True):
        assert [one.id for one in (*a.fall, *a.rise)] == [one.id for one in (*b.fall, *b.rise)]


def test_more_than_there_are_is_all_of_them_and_none_is_nothing(model: Carrot) -> None:
    (answer,) = model.top_training(BIRDS.image(NEW[0]), 1000).answers
    assert {one.id for one in (*answer.fall, *answer.rise)} == {record.id for record in model.records_}
    assert model.top_training([], 3).answers == ()


def test_what_can_not_be_asked_is_refused(model: Carrot) -> None:
    picture, a = BIRDS.image(NEW[0]), model.classes_[0]
    says = model.predict(picture)[0]
    for given, why in (
        ({"target": "nobody"}, "no class"),
        ({"target": a, "against": a}, "are both"),
        ({"against": says}, "predicted class of picture 0"),
        ({"k": 0}, "`k`"),
    ):
        with pytest.raises(ValueError, match=why):
            model.top_training(picture, **given)


def asked(folder: Path, *more: str) -> list[str]:
    return ["predict", str(folder / "model"), str(folder / "new"), "--training", "3", *more]


def test_the_command_tells_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = sorted(map(str, (folder / "new").iterdir()))
    model = Carrot.load(folder / "model")
    found = model.top_training(pictures, 3)
    assert cli.main(asked(folder, "--csv", str(folder / "p.csv"), "--top", "2")) == 0
    told = capsys.readouterr().out
    for answer in found.answers:
        assert all(f"  {line}\n" in told for line in answer.lines())
    table = list(csv.DictReader((folder / "p.csv").read_text().splitlines()))
    assert [row["rank"] for row in table] == ["1", "2"] * len(pictures)
    for answer, first, second in zip(found.answers, table[::2], table[1::2], strict=True):
        for way in ("fall", "rise"):
            some = getattr(answer, way)
            named = [(first.get(f"{way}s_{k}", ""), first.get(f"{way}s_{k}_by", "")) for k in (1, 2, 3)]
            assert [name for name, _ in named if name] == [one.id for one in some]
            assert [float(by) for _, by in named if by] == [one.effect for one in some]
        assert not second["falls_1"]
    assert cli.main(asked(folder, "--json")) == 0
    said = json.loads(capsys.readouterr().out)["predictions"]
    wanted = found.to_dict()["pictures"]
    assert [one["training"] for one in said] == [{way: list(one[way]) for way in ("fall", "rise")} for one in wanted]
    p = model.predict_proba(pictures)
    assert [one["classes"][0]["probability"] for one in said] == p.max(axis=1).tolist()


def test_an_engine_tells_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(asked(folder)) == 0
    told = capsys.readouterr().out
    monkeypatch.setattr("carrot.cli.options.EngineOptions.at_work", lambda self: use(Shuffled(2)))
    assert cli.main(asked(folder)) == 0
    assert capsys.readouterr().out == told


def test_as_a_table(model: Carrot) -> None:
    found: TopTraining = model.top_training([BIRDS.image(i) for i in NEW], 2)
    frame = found.to_frame()
    assert " ".join(frame.columns) == "picture target against way rank id label effect doubtful"
    assert len(frame) == sum(len(a.fall) + len(a.rise) for a in found.answers)
    assert torch.tensor(frame[frame.way == "fall"].effect.to_numpy()).min() > 0
