"""``Carrot`` as scikit-learn's users have it: labels come back as they went in, weights count, parameters, clones, searches, pickles."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline

import carrot
from carrot import Carrot, RidgeHead
from carrot.data.inputs import PictureList
from carrot.data.toy import ToyBirds

pytestmark = pytest.mark.usefixtures("surveyed_once")

SPECIES, N = 3, 6


@pytest.fixture(scope="module")
def birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=N, n_test_per_class=2, n_species=SPECIES)


@pytest.fixture(scope="module")
def X(birds: ToyBirds) -> list[Image.Image]:
    return [birds.image(i) for i in range(SPECIES * N)]


@pytest.fixture(scope="module")
def codes(birds: ToyBirds) -> list[int]:
    return [record.label for record in birds.records[: SPECIES * N]]


def carrot_(**given: Any) -> Carrot:
    return Carrot("toy", lift="identity", **given)


KINDS: dict[str, tuple[Any, Any]] = {  # labels of each kind from a code, and what they come back as
    "names": (lambda c: ["wren", "robin", "jay"][c], "U"),
    "numpy names": (lambda c: np.str_(["wren", "robin", "jay"][c]), "U"),
    "numbers": (lambda c: [10, 2, -1][c], "i"),
    "numpy numbers": (lambda c: np.uint8([10, 2, 1][c]), "i"),
    "truth values": (lambda c: c == 0, "b"),
    "numpy truth values": (lambda c: np.bool_(c == 0), "b"),
    "words that look like numbers": (lambda c: ["3", "03", "2"][c], "U"),
}


HOLDERS = [
    (name, into) for name in KINDS for into in (list, np.array, "torch") if into != "torch" or KINDS[name][1] != "U"
]


@pytest.mark.parametrize(("name", "into"), HOLDERS)
def test_labels_come_back_as_they_went_in(
    X: list[Image.Image], codes: list[int], tmp_path: Path, name: str, into: Any
) -> None:
    label, kind = KINDS[name]
    values = [label(c) for c in codes]
    if into == "torch":
        y = torch.tensor([value.item() if isinstance(value, np.generic) else value for value in values])
        truth = y.numpy()
    else:
        y, truth = into(values), np.array(values)
    model = carrot_().fit(X, y)
    model.save(tmp_path / "m")
    for one in (model, Carrot.load(tmp_path / "m")):
        said = one.predict(X)
        assert said.dtype.kind == one.classes_.dtype.kind == kind
        assert one.classes_.tolist() == sorted(set(truth.tolist()))
        assert (said == truth).mean() == accuracy_score(truth, said) == one.score(X, y) > 0.6
    certificate = model.relabel({model.records_[0].id: truth[-1]})
    assert certificate.relabelled[0]["to"] == str(truth[-1])


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (["a", 1], TypeError, r"of one kind.*names \('a'\) and whole numbers \(1\)"),
        ([True, 1], TypeError, "of one kind"),
        (["a", None], TypeError, "NoneType None.*Leave out"),
        ([0, float("nan")], TypeError, "float nan.*Leave out"),
        ([0.0, 1.0], TypeError, "astype"),
        ("ab", TypeError, "one for each picture"),
        (np.zeros((2, 1), dtype=int), ValueError, r"\(2,\).*\(2, 1\)"),
        ([1], ValueError, "one for each of 2 pictures"),
    ],
)
def test_what_is_no_label_is_refused(X: list[Image.Image], labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PictureList(X[:2], labels)


@pytest.mark.usefixtures("as_user")
def test_what_costs_nothing_to_know_is_refused_before_embedding(
    birds: ToyBirds, X: list[Image.Image], codes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(*_: object) -> None:
        raise AssertionError("the backbone ran")

    monkeypatch.setattr(carrot.TimmViTPatchBackbone, "__call__", embed)
    monkeypatch.setattr(carrot.TimmViTPatchBackbone, "forward", embed)
    for data, y, given, error, message in (
        (X, ["a"] * len(X), {}, carrot.DataError, "at least two classes.*'a'"),
        (X, codes, {"sample_weight": [1.0]}, ValueError, "one for each of 18"),
        (X, codes, {"sample_weight": [0.0] * len(X)}, ValueError, "> 0"),
        (X, codes, {"sample_weight": [float("nan")] * len(X)}, ValueError, "> 0"),
        (birds, None, {"sample_weight": {"nobody": 1.0}}, ValueError, "'nobody' is none"),
    ):
        for verb in ("fit", "select"):
            with pytest.raises(error, match=message):
                getattr(carrot_(), verb)(data, y, **given)
    with pytest.raises(ValueError, match="'7' is none of 3"):
        carrot_(class_weight={7: 2.0}).fit(X, codes)
    for class_weight, message in (("heavy", "balanced"), ({0: 0.0}, "> 0"), ([1, 2], "balanced")):
        with pytest.raises(ValueError, match=message):
            carrot_(class_weight=class_weight)


def test_labels_that_look_alike_are_told(X: list[Image.Image]) -> None:
    with pytest.warns(UserWarning, match="`y`: 'Cat' and 'cat'.*look alike"):
        carrot_(lam=1.0).fit(X[:4], ["Cat", "cat", "dog", "cat"])


@pytest.mark.usefixtures("as_user")
def test_one_number_is_one_class_however_it_is_written(X: list[Image.Image], codes: list[int]) -> None:
    for text in ("01", " 1", "+1", "\uff11", "1_0", "-0"):
        model = carrot_(lam=1.0).fit(X, [c + 1 for c in codes])
        model.relabel({model.records_[-1].id: text}, new_classes=True)
        assert model.fitted.classes[model.records_[-1].label] == str(int(text))
        assert sorted(model.classes_.tolist()) == sorted({1, 2, 3, int(text)})
    big = [9007199254740993, 2**63]
    for pair, kind in ((big, "u"), ([2**63, -1], "O"), ([2**64 + 1, 2**64 + 2], "O"), ([-(2**63), 2**62 + 1], "i")):
        two = carrot_(lam=1.0).fit(X[:12], np.array(pair, dtype=object)[codes[:12]].tolist())
        assert two.classes_.dtype.kind == kind
        assert [int(x) for x in two.classes_] == sorted(pair)
        assert {int(x) for x in two.predict(X[:12])} <= set(pair)
    for text in ("a\0", "half \ud800"):
        with pytest.raises(ValueError, match="can be stored"):
            carrot_().fit(X[:2], ["a", text])


# ---- weights


def test_sample_weights_count_as_so_many_pictures(X: list[Image.Image], codes: list[int]) -> None:
    w = np.array([2.0 if i % 5 == 0 else 1.0 for i in range(len(X))])
    for lam in (3.0, "loo"):
        model = carrot_(lam=lam).fit(X, codes, sample_weight=w)  # type: ignore[arg-type]
        G = model.head_.G
        twice = torch.cat([G, G[w == 2.0]])
        expected = RidgeHead(model.head_.lam, True).fit(twice, torch.tensor([*codes, *np.array(codes)[w == 2.0]]))
        torch.testing.assert_close(model.head_.W_star, expected.W_star, rtol=1e-9, atol=1e-11)
    chosen = RidgeHead("loo", True).fit(G, torch.tensor(codes), torch.from_numpy(w))
    assert model.head_.lam == chosen.lam
    by_id = carrot_(lam=3.0).fit(X, codes, sample_weight={f"picture {i}": 2.0 for i in range(0, len(X), 5)})
    assert torch.equal(by_id.head_.sample_weight, torch.from_numpy(w))


def test_class_weights_are_scikit_learns(X: list[Image.Image], codes: list[int]) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    keep = [i for i, c in enumerate(codes) if c or i < 2]
    some, y = [X[i] for i in keep], np.array(codes)[keep]
    model = carrot_(class_weight="balanced").fit(some, y)
    expected = compute_class_weight("balanced", classes=np.unique(y), y=y)[y]
    np.testing.assert_allclose(model.head_.sample_weight, expected, rtol=1e-14)
    given = carrot_(class_weight={0: 5.0}, lam=1.0).fit(some, y)
    assert given.head_.sample_weight.tolist() == [5.0 if c == 0 else 1.0 for c in y]
    both = carrot_(class_weight={0: 5.0}, lam=1.0).fit(some, y, sample_weight=np.full(len(y), 2.0))
    assert both.head_.sample_weight.tolist() == [10.0 if c == 0 else 2.0 for c in y]


# ---- parameters, clones, searches


def test_parameters_are_those_of_the_constructor(X: list[Image.Image], codes: list[int]) -> None:
    model = Carrot("toy", lift="identity", t=1.0, class_weight="balanced")
    params = model.get_params()
    assert params["backbone"] == "toy"
    assert (params["t"], params["tau"], params["class_weight"]) == (1.0, None, "balanced")
    other = clone(model)
    assert other is not model
    assert other.get_params() == params
    model.fit(X, codes)
    assert model.set_params(t=0.0, lam=2.0) is model
    with pytest.raises(carrot.NotFittedError):
        model.predict(X[0])
    assert model.fit(X, codes).setting_.t == 0.0
    assert model.head_.lam == 2.0
    with pytest.raises(ValueError, match="'depth' is no parameter"):
        model.set_params(depth=3)
    with pytest.raises(ValueError, match="lam"):
        model.set_params(lam=-1.0)
    assert model.head_.lam == 2.0, "a refusal changes nothing"
    assert is_classifier(model)


def test_cross_validation_search_and_pipeline(X: list[Image.Image], codes: list[int], tmp_path: Path) -> None:
    paths = []
    for i, image in enumerate(X):
        image.save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    y = np.array(["wren", "robin", "jay"])[codes]
    scores = cross_val_score(carrot_(lam=1.0), paths, y, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.6
    said = cross_val_predict(carrot_(lam=1.0), np.array(paths), y, cv=3)
    assert np.isclose((said == y).mean(), scores.mean())
    search = GridSearchCV(carrot_(), {"lam": [1e-3, 1e3]}, cv=2).fit(paths, y)
    assert search.best_params_["lam"] == 1e-3
    assert search.score(paths, y) > 0.6
    arrays = np.stack([np.asarray(image) for image in X])
    pipe = Pipeline([("carrot", carrot_(lam=1.0))]).fit(arrays, y)
    assert pipe.score(arrays, y) > 0.6


def test_pickles_say_the_same(birds: ToyBirds, X: list[Image.Image], tmp_path: Path) -> None:
    for i in range(SPECIES * N):
        folder = tmp_path / "data" / f"c{birds.records[i].label}"
        folder.mkdir(parents=True, exist_ok=True)
        X[i].save(folder / f"{i}.png")
    fitted = carrot_().fit(tmp_path / "data")
    fitted.save(tmp_path / "m")
    loaded = Carrot.load(tmp_path / "m")
    for model in (carrot_(), fitted, loaded):
        again = pickle.loads(pickle.dumps(model))  # noqa: S301  (our own bytes)
        assert again.get_params().keys() == model.get_params().keys()
        if model.__sklearn_is_fitted__():
            assert np.array_equal(again.decision_function(X[:2]), fitted.decision_function(X[:2]))
            again.forget(again.records_[0].id)
            assert again.explain(X[0]).shown_pictures
    with pytest.raises(carrot.NotFittedError):
        pickle.loads(pickle.dumps(carrot_())).predict(X[0])  # noqa: S301


def test_a_loaded_model_asks_for_what_was_asked_for(X: list[Image.Image], codes: list[int], tmp_path: Path) -> None:
    model = carrot_(class_weight={0: 2.0, 2: 3.0}).fit(X, codes)
    model.save(tmp_path / "m")
    again = Carrot.load(tmp_path / "m")
    assert again.get_params()["lam"] == "loo"
    assert again.get_params()["class_weight"] == {0: 2.0, 2: 3.0}
    assert again.fit(X, codes).head_.lam == model.head_.lam
    assert torch.equal(again.head_.W_star, model.head_.W_star)
