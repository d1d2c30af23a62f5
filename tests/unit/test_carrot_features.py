"""Pictures as embeddings in scikit-learn's pipelines: ``Carrot``'s own numbers, and one backbone pass a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, learning_curve
from sklearn.pipeline import make_pipeline

from carrot import Carrot, StoreError, Tiling, TimmViTPatchBackbone, UnreadableImageError
from carrot.data.toy import ToyBirds
from carrot.estimators import CarrotFeatures, RidgeHeadClassifier

pytestmark = pytest.mark.usefixtures("surveyed_once")


@pytest.fixture(scope="module")
def birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=3)


@pytest.fixture(scope="module")
def X(birds: ToyBirds) -> list[Image.Image]:
    return [birds.image(i) for i in range(12)]


@pytest.fixture(scope="module")
def y(birds: ToyBirds) -> Any:
    return np.array(["jay", "robin", "wren"])[[record.label for record in birds.records[:12]]]


@pytest.fixture
def paths(X: list[Image.Image], tmp_path: Path) -> list[str]:
    for i, image in enumerate(X):
        image.save(tmp_path / f"{i}.png")
    return [str(tmp_path / f"{i}.png") for i in range(len(X))]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many inputs each pass of the backbone had."""
    found: list[int] = []
    forward = TimmViTPatchBackbone.forward

    def counted(self: TimmViTPatchBackbone, x: Any) -> Any:
        found.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(TimmViTPatchBackbone, "forward", counted)
    return found


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"lift": "identity", "t": 1.0, "global_share": 0.3, "coarsen": 2},
        {"lift": "identity", "regions": "tiles:2", "readout": "sum", "dtype": "float32"},
        {"lift": "identity", "regions": Tiling(2), "global_share": 0.2},
    ],
)
def test_a_pipeline_is_carrot_to_the_bit(X: list[Image.Image], y: Any, tmp_path: Path, given: dict[str, Any]) -> None:
    model = Carrot("toy", **given).fit(X, y)
    features = CarrotFeatures("toy", tokens=tmp_path / "tokens" if given else None, **given)
    pipe = make_pipeline(features, RidgeHeadClassifier("loo")).fit(X, y)
    for one in (pipe, clone(pipe).fit(X, y)):  # the second of kept tokens
        assert np.array_equal(one.decision_function(X[:5]), model.decision_function(X[:5]))
        assert np.array_equal(one.predict_proba(X), model.predict_proba(X))
        assert np.array_equal(one.predict(X), model.predict(X))
    assert pipe[0].setting_ == model.setting_
    assert pipe[0].get_feature_names_out()[-1] == f"carrotfeatures{model.head_.G.shape[1] - 1}"


def test_a_search_runs_the_backbone_once_for_a_picture(
    paths: list[str], y: Any, tmp_path: Path, passes: list[int]
) -> None:
    pipe = make_pipeline(CarrotFeatures("toy", tokens=tmp_path / "tokens"), RidgeHeadClassifier())
    grid = {
        "carrotfeatures__lift": ["identity", "quadratic"],
        "carrotfeatures__tau": [0.0, 0.5],
        "ridgeheadclassifier__lam": [1.0, "loo"],
    }
    search = GridSearchCV(pipe, grid, cv=2).fit(paths, y)
    assert sum(passes) == len(paths)
    assert search.best_estimator_.score(paths, y) > 0.6
    cross_val_score(pipe, np.array(paths), y, cv=4)
    assert sum(passes) == len(paths)
    clone(pipe).set_params(carrotfeatures__regions="tiles:2").fit(paths, y)
    assert sum(passes) == len(paths), "tiles are pooled, another way of looking"
    clone(pipe).set_params(carrotfeatures__dtype="float32").fit(paths, y)
    assert sum(passes) == 2 * len(paths), "other rounding, other tokens"


def test_without_a_folder_each_call_runs_it(X: list[Image.Image], passes: list[int]) -> None:
    features = CarrotFeatures("toy", lift="identity").fit(X)
    assert not passes, "fit looks at the settings alone"
    features.transform(X)
    features.transform(X[:3])
    assert sum(passes) == 15


def test_frames_and_columns(paths: list[str], X: list[Image.Image], y: Any) -> None:
    whole = CarrotFeatures("toy", lift="identity").fit(paths)
    frame = pd.DataFrame({"where": paths, "size": np.arange(12.0)})
    columns = ColumnTransformer([("picture", CarrotFeatures("toy", lift="identity"), ["where"])], remainder="drop")
    assert np.array_equal(columns.fit_transform(frame), whole.transform(paths))
    for given in (frame["where"], np.array(paths), frame[["where"]], np.stack([np.asarray(image) for image in X])):
        assert np.array_equal(whole.transform(given), whole.transform(paths))
    named = CarrotFeatures("toy", lift="identity").set_output(transform="pandas").fit(paths).transform(paths)
    assert list(named.columns[:2]) == ["carrotfeatures0", "carrotfeatures1"]
    model = RidgeHeadClassifier().fit(named, y)
    assert model.feature_names_in_[0] == "carrotfeatures0"


def test_a_backbone_that_is_given(X: list[Image.Image], y: Any) -> None:
    backbone = Carrot("toy").encoder.backbone
    pipe = make_pipeline(CarrotFeatures(backbone, lift="identity"), RidgeHeadClassifier("loo"))
    assert np.array_equal(
        clone(pipe).fit(X, y).decision_function(X), Carrot("toy", lift="identity").fit(X, y).decision_function(X)
    )


def test_what_is_wrong_is_told(paths: list[str], tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        CarrotFeatures("toy").transform(paths)
    for given, message in (
        ({"lift": "cubic"}, "lift"),
        ({"t": -1.0}, "`t`"),
        ({"regions": "tiles:0"}, "regions|tiles"),
    ):
        with pytest.raises(ValueError, match=message):
            CarrotFeatures("toy", **given).fit(paths)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one picture"):
        CarrotFeatures("toy").fit([])
    features = CarrotFeatures("toy", lift="identity", tokens=tmp_path / "t").fit(paths)
    with pytest.raises(UnreadableImageError, match=r"gone\.png"):
        features.transform([*paths, str(tmp_path / "gone.png")])
    features.transform(paths)
    one = next((tmp_path / "t").rglob("*.safetensors"))
    whole = one.read_bytes()
    one.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match="is damaged"):
        features.transform(paths)
    one.write_bytes(whole[:40])
    with pytest.raises(StoreError, match="can't be read"):
        features.transform(paths)


# ---- Carrot itself


def test_carrot_takes_routed_weights(X: list[Image.Image], y: Any) -> None:
    w, arrays = np.linspace(1.0, 3.0, len(X)), np.stack([np.asarray(image) for image in X])
    with sklearn.config_context(enable_metadata_routing=True):
        asked = Carrot("toy", lift="identity", lam=1.0).set_fit_request(sample_weight=True)  # type: ignore[attr-defined]
        asked = clone(asked.set_score_request(sample_weight=False))
        routed = cross_val_score(asked, arrays, y, cv=2, params={"sample_weight": w})
        silent = Carrot("toy", lift="identity", lam=1.0)
        with pytest.raises(ValueError, match="sample_weight"):
            cross_val_score(silent, arrays, y, cv=2, params={"sample_weight": w}, error_score="raise")
    plain = cross_val_score(silent, arrays, y, cv=2, params={"sample_weight": w})
    assert np.array_equal(routed, plain)


def test_a_fold_may_lack_a_class(X: list[Image.Image], y: Any) -> None:
    order = np.argsort(y, kind="stable")
    pictures, labels = np.stack([np.asarray(image) for image in X])[order], y[order]
    model = Carrot("toy", lift="identity", lam=1.0).fit(pictures[:8], labels[:8])
    with pytest.warns(UserWarning, match="4 of 12 pictures.*'wren' say: it counts as wrong"):
        found = model.score(pictures, labels)
    assert found == (model.predict(pictures) == labels).mean()
    with pytest.raises(ValueError, match="'finch' is no class"):
        model.score(pictures[:2], ["finch", "finch"])
    with pytest.warns(UserWarning, match="it counts as wrong"):
        sizes, *_ = learning_curve(
            Carrot("toy", lift="identity", lam=1.0), pictures, labels, cv=2, train_sizes=[4, 6], error_score="raise"
        )
    assert sizes.tolist() == [4, 6]
