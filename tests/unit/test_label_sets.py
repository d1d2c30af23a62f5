"""``Carrot.predict_set`` and ``carrot predict --sets``: what is asked of the head, what is refused, what is said."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from carrot import Carrot, RidgeHead, cli
from carrot.classifier.label_sets import checked_alpha, weight_by_class
from carrot.data.toy import ToyBirds

BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=2, n_species=4)
TEST = [BIRDS.image(i) for i, record in enumerate(BIRDS.records) if record.split == "test"]


@pytest.fixture(scope="module")
def model() -> Carrot:
    return Carrot("toy", lam=0.1).fit(BIRDS)


def test_sets_are_the_labels_whose_p_value_a_refit_puts_above_alpha(model: Carrot) -> None:
    found = model.predict_set(TEST[:2], 0.1)
    head, C = model.head_, len(model.classes_)
    G = model.classifier.pooling.g(model.encoder.tokens(TEST[:2]))
    for row, g in enumerate(G):
        for y in range(C):
            Y = torch.cat([head.Y, torch.eye(C, dtype=torch.float64)[y : y + 1]])
            again = RidgeHead(head.lam, True).fit(torch.cat([head.G, g.unsqueeze(0)]), Y).loo_predict()
            own, labels = again.gather(1, Y.argmax(1, keepdim=True))[:, 0], Y.bool()
            margin = own - again.masked_fill(labels, -torch.inf).amax(dim=1)
            p = float((margin <= margin[-1] + 1e-10).double().mean())
            assert abs(float(found.p[row, y]) - p) < 1e-12
            assert found.sets[row, y] == (p > 0.1)
            assert (model.classes_[y] in found.labels[row]) == (p > 0.1)
    assert np.allclose(found.probabilities.numpy(), model.predict_proba(TEST[:2]))


def test_of_pictures_that_it_was_fitted_on_nothing_is_promised(model: Carrot) -> None:
    own = next(i for i, record in enumerate(BIRDS.records) if record.split == "train")
    found = model.predict_set([TEST[0], BIRDS.image(own)])
    assert found.fitted_on == (found.pictures[1],)
    assert "The model was fitted on 1 of these 2 pictures" in str(found)
    assert "fitted on 1 of" in found._repr_html_()
    assert "was fitted on" not in str(model.predict_set(TEST[:1]))


def test_a_picture_counts_what_its_class_counts() -> None:
    first = BIRDS.classes[0]
    for weight in (None, "balanced", {first: 3.0}):
        model = Carrot("toy", lam=0.1, class_weight=weight).fit(BIRDS, sample_weight={BIRDS.records[0].id: 2.0})
        found = weight_by_class(model.fitted)
        w = model.head_.sample_weight / torch.tensor([r.weight for r in model.records_], dtype=torch.float64)
        assert torch.allclose(found[model.fitted.labels], w)
        sets = model.predict_set(TEST[:1])
        assert bool(torch.isfinite(sets.p).all())
        assert "it isn't proven" in sets.promise
        assert (
            "it isn't proven"
            not in Carrot("toy", lam=0.1, class_weight=weight).fit(BIRDS).predict_set(TEST[:1]).promise
        )
    assert float(found[0]) == 3.0


def test_what_is_refused(model: Carrot) -> None:
    for alpha in (0.0, 1.0, -0.1, 2.0, float("nan")):
        with pytest.raises(ValueError, match="`alpha` must be between 0 and 1"):
            model.predict_set(TEST[:1], alpha)
    with pytest.raises(TypeError, match="`alpha` must be a number"):
        checked_alpha(True)
    few = Carrot("toy", lam=0.1).fit([BIRDS.image(i) for i in (0, 1, 6)], ["a", "a", "b"])
    with pytest.raises(ValueError, match=r"'b' has one \(1 such class\)"):
        few.predict_set(TEST[:1], per_class=True)
    alone = Carrot("toy", lam=0.1).fit([BIRDS.image(i) for i in (0, 6)], ["a", "b"])
    with pytest.raises(ValueError, match="more than one training picture"):
        alone.predict_set(TEST[:1])


def test_it_shows_itself(model: Carrot) -> None:
    found = model.predict_set(TEST, 0.2)
    assert repr(found).startswith("<LabelSets of 8 pictures at alpha 0.2:")
    assert "At least 80 % of new pictures have their true label in their set" in str(found)
    assert found.pictures[0] in found._repr_html_()
    frame = found.to_frame()
    assert len(frame) == 8 * 4
    assert frame["in_set"].sum() == found.sets.sum()
    assert json.loads(found.to_json())["pictures"][0]["set"] == list(found.labels[0])
    everything = model.predict_set(TEST, 0.03)  # less than 1 of 25
    assert everything.sets.all()
    assert "every label is in every set" in everything.promise
    assert everything.in_words(0) == "all 4 labels (none can be excluded)"
    by_class = model.predict_set(TEST, 0.2, per_class=True)
    assert "of each class" in by_class.promise
    nothing = model.predict_set(TEST, 0.99)
    empty = next(i for i, names in enumerate(nothing.labels) if not names)
    assert nothing.in_words(empty).startswith("empty")
    assert model.predict_set([]).sets.shape == (0, 4)


def test_the_command(model: Carrot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save(tmp_path / "model")
    for i, image in enumerate(TEST[:2]):
        image.save(tmp_path / f"{i}.png")
    files = [str(tmp_path / f"{i}.png") for i in range(2)]
    found = model.predict_set([Image.open(file) for file in files], 0.1)
    table = tmp_path / "out" / "sets.csv"
    asked = ["predict", str(tmp_path / "model"), *files, "--sets", "0.1", "--json", "--csv", str(table)]
    assert cli.main(asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["set"] for row in told["predictions"]] == [list(names) for names in found.labels]
    assert told["sets"]["promise"] == found.promise
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row["in_set"] == "True"]
    assert len(rows) == found.sets.sum()
    assert cli.main(["predict", str(tmp_path / "model"), *files, "--sets", "0.2", "--per-class"]) == 0
    said = capsys.readouterr()
    assert "   set: " in said.out
    assert "At least 80 % of new pictures of each class" in said.err
    assert cli.main(["predict", str(tmp_path / "model"), *files, "--sets", "1"]) == 2
    assert "`--sets` must be between 0 and 1" in capsys.readouterr().err
    assert cli.main(["predict", str(tmp_path / "model"), *files, "--per-class"]) == 2
    assert "`--sets`" in capsys.readouterr().err
