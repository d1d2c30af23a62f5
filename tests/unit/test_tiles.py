"""A model of tiles through every door and verb: one picture, one answer; one cache for all ladders; nothing left."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from carrot import Carrot, Tiling, TimmPooledBackbone, TimmViTPatchBackbone
from carrot._ridge.logit import Logit
from carrot.classifier.selecting import SHARES, Plan
from carrot.data.records import Subset
from carrot.data.toy import ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.embedding.kept import KeptTokens
from carrot.embedding.view import TileView
from carrot.errors import StoreError
from carrot.explanation.parts import take_apart
from carrot.protocol.case import Case
from carrot.protocol.measure import evaluate
from carrot.protocol.pixel_level import pixel_level
from carrot.store.shards import EmbeddingStore
from tests import tiles

pytestmark = [
    pytest.mark.usefixtures("surveyed_once"),
    pytest.mark.filterwarnings("ignore:lam = ", "ignore:.*can't be built again"),  # of noise, by random weights
]

N, SPEC = 12, tiles.SPEC
SHARDS = {"tiles:1": 8, "tiles:8": 8, "tiles:9@0": 6, "tiles:16": 2, "tiles:32": 1}  # pictures, by regions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of three classes; one more is a pixel wide."""
    root = tmp_path_factory.mktemp("tiles") / "pictures"
    for i in range(N):
        place = root / "train" / "abc"[i % 3] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        tiles.noise(i, (40 + i, 31)).save(place)
    for i, name in enumerate("abc"):
        (root / "test" / name).mkdir(parents=True)
        tiles.noise(30 + i).save(root / "test" / name / "0.png")
    Image.new("RGB", (1, 40)).save(root / "train" / "a" / "narrow.png")
    return root


def carrot(**given: Any) -> Carrot:
    return Carrot(tiles.backbone(), **{"regions": SPEC, "lift": "identity", "lam": 1.0, "dtype": "float32", **given})


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many inputs each pass of the backbone had that gave one feature."""
    seen, pooled = list[int](), TimmViTPatchBackbone.pooled

    def counted(self: TimmViTPatchBackbone, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return pooled(self, x)

    monkeypatch.setattr(TimmViTPatchBackbone, "pooled", counted)
    return seen


def test_every_ladder_shares_its_scales(folder: Path, inputs: list[int], tmp_path: Path) -> None:
    carrot(regions="tiles:2").fit(folder, tokens=tmp_path)
    assert sum(inputs) == 4 * N + 4, "a pixel is enough for two columns that overlap, not for three"
    inputs.clear()
    ladder = carrot(regions="tiles:2,3").fit(folder, tokens=tmp_path)
    assert sum(inputs) == 9 * N
    inputs.clear()
    again = carrot(regions=Tiling((2, 3))).fit(folder, tokens=tmp_path)
    carrot(regions="tiles:3", global_share=0.1).fit(folder, tokens=tmp_path)
    assert sum(inputs) == N + 1, "the whole picture, which is its own scale"
    assert torch.equal(again.head_.G, ladder.head_.G)
    assert list(ladder.set_aside_) == ["train/a/narrow.png"]
    assert "too small for tiles:" in ladder.set_aside_["train/a/narrow.png"]
    assert carrot(regions="tiles:2,3").fit(folder, tokens=tmp_path).set_aside_.keys() == ladder.set_aside_.keys()


def test_select_runs_each_scale_once_and_forgets_in_all(folder: Path, inputs: list[int], tmp_path: Path) -> None:
    grid = {"regions": ["patches", "tiles:2", "tiles:2,3"], "lift": ["identity"], "t": [0.0, 1.0], "tau": [0.0]}
    model = carrot(regions="patches").select(folder, grid=grid, tokens=tmp_path / "m" / "tokens", show=False)
    assert sum(inputs) <= 4 * N + 4 + 9 * N + N + 1
    kept = model.fitted.kept
    assert kept is not None
    assert len(kept.all_of_them) >= 3
    gone = model.records_[0]
    model.save(tmp_path / "m")
    model.forget([gone.id], verify=False)
    for place, key in kept.all_of_them:
        store = KeptTokens.store(place, key)
        assert store is not None
        for shard in range(store.n_shards):
            try:
                digests = store.read(shard)["sha256"]
            except StoreError:
                continue  # it is gone as a whole
            assert gone.sha256 not in {bytes(digest.tolist()).hex() for digest in digests}, place


def test_one_picture_one_answer(folder: Path, tmp_path: Path) -> None:
    model = carrot(t=1.0, global_share=0.2).fit(folder, tokens=tmp_path / "tokens")
    path = folder / "train" / "b" / "4.png"
    expected = model.decision_function(path)
    doors = [Image.open(path), np.asarray(Image.open(path)), path.read_bytes(), [path]]
    for door in doors:
        np.testing.assert_array_equal(model.decision_function(door), expected)
    logits, e = model.trace(path).logits, model.explain(path, k=2)
    assert logits is not None
    np.testing.assert_allclose(logits, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(e.parts.logits, expected[0], rtol=0, atol=1e-12)
    assert max(map(abs, e.residual.values())) < 1e-10
    np.testing.assert_allclose(model.what_if(path, regions=[]).logits, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.shown(path, range(14)), expected[0], rtol=0, atol=1e-6)
    model.save(tmp_path / "m")
    loaded = Carrot.load(tmp_path / "m", backbone=tiles.backbone())
    np.testing.assert_array_equal(loaded.decision_function(path), expected)
    assert loaded.setting_ == model.setting_
    row = [record.id for record in model.records_].index("train/b/4.png")
    assert model.fitted.kept is not None
    tokens = model.fitted.kept.tokens(model.records_[row].row or 0)
    assert tokens is not None
    np.testing.assert_allclose(model.classifier.logits_of(tokens), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.head_.predict(model.head_.G)[row], expected[0], rtol=0, atol=1e-5)


def test_it_changes_as_a_refit_does(folder: Path) -> None:
    model = carrot().fit(folder)
    other, new = tiles.noise(50), tiles.noise(51)
    path = folder / "train" / "c" / "5.png"
    replaced = model.what_if(path, replace={"train/a/0.png": other}, verify=True)
    assert replaced.difference is not None
    assert replaced.difference < 1e-9
    before = model.decision_function(path)
    model.relabel({"train/a/0.png": "b"})
    model.add([new], ["c"], ["new"])
    model.forget(["new"])
    model.relabel({"train/a/0.png": "a"})
    np.testing.assert_allclose(model.decision_function(path), before, rtol=0, atol=1e-9)
    assert len(model.audit().suspects) == N
    with pytest.raises(ValueError, match="too small for tiles:"):
        model.add([Image.new("RGB", (2, 40))], ["c"], ["narrow"])


def test_scikit_learns_clone_takes_a_tiling() -> None:
    from sklearn.base import clone

    tiling = Tiling(2, 0.0)
    model = carrot(regions=tiling, power=4.0)
    assert model.get_params()["regions"] is tiling
    assert clone(model).get_params()["regions"] == tiling
    assert clone(model).setting_ == model.setting_


def test_a_config_of_one_store_is_read(tmp_path: Path) -> None:
    old = {"folder": "tokens/x", "key": "k", "grid_hw": [2, 3]}
    found = KeptTokens.from_json(old, tmp_path)
    assert found.all_of_them == ((str(tmp_path / "tokens/x"), "k"),)
    assert found.layout.grid_hw == (2, 3)
    assert KeptTokens.from_json(found.to_json(tmp_path), tmp_path) == found


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"tau": 0.5}, "`tau` = 0.5 weighs regions by the whole picture's attention"),
        ({"coarsen": 2}, "`coarsen` = 2 joins patches"),
        ({"regions": "tiles:99"}, "1024"),
        ({"readout": "max"}, "`readout`"),
        ({"power": -1.0}, "`power`"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_what_does_not_go_with_tiles_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        carrot(**setting)


def test_sizes_that_a_backbone_does_not_take_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`tile_size` = 64, and the backbone that was given takes 32 x 32"):
        carrot(tile_size=64).fit(folder)
    with pytest.raises(ValueError, match="comes with its size"):
        Carrot("toy", regions="tiles:2", tile_size=64).fit(folder)


@pytest.mark.parametrize("given", [{}, {"t": 1.5, "global_share": 0.2}, {"readout": "sum", "global_share": 0.2}])
def test_a_box_of_two_scales_is_shown_as_any_other(folder: Path, given: dict[str, Any]) -> None:
    model, picture = carrot(regions="tiles:2@0,3", **given).fit(folder), tiles.noise(7)
    boxes = Tiling.from_spec("tiles:2@0,3").shares
    assert len(boxes.unique(dim=0)) == len(boxes) - 4, "the corners of 3 x 3 are the boxes of 2 x 2"
    dropped = [1, 4]  # corners 0, 2, 3 stay twice
    there = [i for i in range(len(boxes) + bool(given.get("global_share"))) if i not in dropped]
    predicted = model.what_if(picture, regions=dropped).logits.numpy()
    np.testing.assert_allclose(model.shown(picture, there), predicted, rtol=0, atol=1e-5)
    assert model.hidden_regions(picture, verify=True).difference <= 1e-5


def test_a_model_without_patches_is_measured_beside_its_feature_of_whole_pictures(folder: Path, tmp_path: Path) -> None:
    backbone = TimmPooledBackbone("test_resnet", pretrained=False, img_size=32)
    model = Carrot(backbone, regions="tiles:2", lift="identity", lam=1.0).fit(folder)
    answer = evaluate(model, str(folder), tmp_path, explained=1, occluded=1, refits=0)
    assert {name for name in answer["baselines"] if name.endswith(", ridge")} == {"whole picture, ridge"}
    assert answer["baselines"]["whole picture, ridge"]["n"] == 3


def test_a_share_of_the_whole_picture_needs_no_class_token(folder: Path) -> None:
    backbone = TimmViTPatchBackbone("test_vit2", pretrained=False, img_size=32)
    assert not backbone.has_class_token
    model = Carrot(backbone, regions="tiles:2", global_share=0.3, lift="identity", lam=1.0).fit(folder)
    assert model.trace(tiles.noise(7)).regions.num_global == 1
    grid = {"regions": ["patches", "tiles:2"]}
    assert Plan.of(grid, Encoder(backbone), N).shares == SHARES, "so that it is offered where tiles alone lose"
    assert Plan.of({**grid, "global_share": [0.0]}, Encoder(backbone), N).shares == ()


def test_many_tiles_wait_in_shards_of_few_pictures(folder: Path, tmp_path: Path) -> None:
    sizes = {spec: TileView(tiles.backbone(), torch.float32, Tiling.from_spec(spec)).shard for spec in SHARDS}
    assert sizes == SHARDS
    model = carrot(regions="tiles:20@0.9").fit(folder, tokens=tmp_path)
    store = EmbeddingStore.existing(next(tmp_path.glob("*/tiles-20@0.9")))
    assert (store.n_rows, store.shard_size, model.fitted.kept.tokens(0).H.shape[1]) == (N + 1, 1, 400)


def test_patches_are_not_shown_alone(folder: Path) -> None:
    with pytest.raises(ValueError, match="patch token has seen the whole picture"):
        carrot(regions="patches", tau=0.0).fit(folder).shown(tiles.noise(), [0])


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_broken_run_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Stopped between shards: the rest is computed, and the same."""
    expected = carrot(regions="tiles:2,3").fit(folder).head_.G
    write, written = EmbeddingStore.write, list[int]()

    def until(self: EmbeddingStore, shard: int, rows: Any) -> None:
        if len(written) == stop:
            raise KeyboardInterrupt
        written.append(shard)
        write(self, shard, rows)

    monkeypatch.setattr(EmbeddingStore, "write", until)
    with pytest.raises(KeyboardInterrupt):
        carrot(regions="tiles:2,3").fit(folder, tokens=tmp_path)
    monkeypatch.setattr(
        EmbeddingStore, "write", lambda self, shard, rows: (written.append(shard), write(self, shard, rows))[1]
    )
    found = carrot(regions="tiles:2,3").fit(folder, tokens=tmp_path)
    assert len(written) == 4, "two shards of each scale, none twice"
    assert torch.equal(found.head_.G, expected)


def test_contributions_to_a_sum_are_drops(folder: Path) -> None:
    model = carrot(readout="sum", regions="tiles:2", power=4.0).fit(folder)
    e = model.explain(tiles.noise(40), k=1)
    torch.testing.assert_close(e.parts.token, e.parts.drop, rtol=0, atol=1e-12)
    assert "of which nothing is shown" in e.proof()


def test_the_page_says_what_adds_up_and_where_it_starts(folder: Path) -> None:
    e = carrot(global_share=0.2).fit(folder).explain(tiles.noise(40), k=1)
    page, sums = " ".join(e.to_html().split("<script")[0].split()), e.parts
    assert "The whole picture, as a region of its own" in page
    assert "Start: what the average training picture gets" in page
    assert float(sums.token.sum()) + sums.prior == pytest.approx(sums.logit, abs=1e-12)
    assert "the share of the class among them" in page
    for words in ("Power of the attention", "Patches on a region", "squares", "patch"):
        assert words not in page, "words of patches"
    page = carrot(readout="sum").fit(folder).explain(tiles.noise(40), k=1).to_html()
    page = page.split("<script")[0]
    assert "Start: what a picture gets of which nothing is shown" in page
    assert "the share of the class among them" not in page
    assert "per hundredth of the picture" in " ".join(axis.get_title() for axis in e.plot(maps=True).axes)


def test_tile_level_and_pixel_level_are_the_same_numbers() -> None:
    """Areas of the same pictures and steps, predicted without the backbone and measured with it."""
    birds = ToyBirds(n_train_per_class=4, n_test_per_class=0, n_species=3)
    model = Carrot("toy", regions="tiles:2,3", power=4.0, global_share=0.2, dtype="float32", device="cpu").fit(birds)
    image = birds.image(0)
    trace = model.trace(image)
    logit = Logit.predicted(model.head_, trace.g)
    test = Subset(birds, [0])
    found = dict(pixel_level(Case(model.classifier, test, 0, trace, logit, take_apart(trace, logit))))
    names = [name.removeprefix("pixel level, ") for name in found if name.startswith("pixel level, ")]
    areas = [name for name in names if name.split()[0] in ("deletion", "insertion")]
    assert len(areas) == 2 * 3
    for name in areas:
        assert found[f"tile level, same steps, {name}"] == pytest.approx(found[f"pixel level, {name}"], abs=1e-5)
    assert found["pixel level, largest difference from tile level"] <= 1e-5
    spread = [found[f"pixel level, deletion {how}"] for how in ("by token", "at random")]
    assert abs(spread[0] - spread[1]) > 1e-3, "orders differ by more than that"


def test_what_features_take_is_told_before_the_first_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []

    def silent(pieces: Any, description: str, *_: Any, **__: Any) -> Any:
        told.append(description)
        return pieces

    monkeypatch.setattr("carrot.embedding.filling.progress", silent)
    birds = ToyBirds(n_train_per_class=2, n_test_per_class=0, n_species=3)
    Carrot("toy", regions="tiles:2,3", device="cpu").fit(birds, tokens=tmp_path)
    tokens = [f"embedding toy, tiles:{k} ({6 * k * k * 64 * 2 / 1e6:.1f} MB)" for k in (2, 3)]
    assert told == ["reading toy", *tokens]
