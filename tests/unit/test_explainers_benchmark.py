"""The explainers of the benchmark on a few toy birds: each map is what it is called."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import mosaics, peers
from benchmarks.differentiable import Differentiable, apart
from benchmarks.explainers import Case, check, compare
from benchmarks.mosaics import Mosaic, OnMosaics
from benchmarks.peers import Subject, over_boxes, own
from carrot import Carrot
from carrot.data.records import Subset
from carrot.data.toy import ToyBirds
from carrot.evaluation.faithfulness import area, order_of
from carrot.explanation.parts import take_apart
from carrot.protocol.mosaics import mosaic
from docs import explainers_table

pytestmark = pytest.mark.filterwarnings("ignore:lam = .* is the end of the path")
BIRDS = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=4)
TEST = Subset(BIRDS, range(12, 16))
SETTINGS = {
    "patches": {},
    "tiles": {"regions": "tiles:2@0,3"},
    "sum": {"regions": "tiles:2@0,3", "readout": "sum"},
    "disjoint": {"regions": "tiles:2@0"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Carrot]:
    folder = tmp_path_factory.mktemp("tokens")
    return {name: Carrot("toy", **setting).fit(BIRDS, tokens=folder) for name, setting in SETTINGS.items()}


@pytest.mark.parametrize("name", ["patches", "tiles"])
def test_the_function_with_gradients_is_the_model(models: dict[str, Carrot], name: str) -> None:
    model, image = models[name], BIRDS.image(12)
    assert apart(model.classifier, image) < 2e-3  # 8 bits and float16
    f, x = Differentiable(model.classifier), Subject(model, image).x.requires_grad_()
    (slope,) = torch.autograd.grad(f(x)[0, 1], x)
    way = torch.zeros_like(x)
    way[..., 30:130, 30:130] = slope[..., 30:130, 30:130].sign()
    step = 1e-3
    with torch.no_grad():
        measured = float((f(x + step * way) - f(x - step * way))[0, 1]) / (2 * step)
    assert measured == pytest.approx(float((slope * way).sum()), rel=0.05)


def test_own_maps_summed_over_disjoint_tiles_are_their_values(models: dict[str, Carrot]) -> None:
    subject = Subject(models["disjoint"], BIRDS.image(12))
    trace = models["disjoint"].trace(subject.image)
    parts = take_apart(trace, models["disjoint"].head_.logit(1))
    assert torch.allclose(over_boxes(own("token")(subject, 1), subject.boxes), parts.token, atol=1e-5)
    assert torch.allclose(over_boxes(own("drop")(subject, 1), subject.boxes), parts.drop, atol=1e-5)


@pytest.mark.parametrize("name", ["patches", "tiles"])
def test_rollout_is_the_class_tokens_attention_through_all_blocks(models: dict[str, Carrot], name: str) -> None:
    subject = Subject(models[name], BIRDS.image(12))
    found = peers.rollout(subject, 0)
    assert found.shape == (160, 160)
    assert float(found.min()) >= 0.0
    assert 0.3 < float(found.sum()) < 1.0  # the rest is the class token's own
    backbone = subject.differentiable.backbone
    with torch.no_grad(), peers.attentions(backbone.bare_model) as read:
        subject.differentiable.tokens(subject.x)
    assert len(read) == len(backbone.bare_model.blocks)
    assert torch.allclose(read[0].sum(dim=-1), torch.ones(()), atol=1e-5)
    if name == "patches":  # what the backbone itself reads of the last block
        A = backbone(subject.differentiable.inputs(subject.x)).attention
        assert torch.allclose(read[-1][:, 0, backbone.num_prefix_tokens :], A, atol=1e-6)


def test_feature_ablation_covers_one_tile_at_a_time(models: dict[str, Carrot]) -> None:
    pytest.importorskip("captum", reason="pip install '.[bench]'")
    subject = Subject(models["disjoint"], BIRDS.image(12))
    found = over_boxes(peers.feature_ablation(subject, 1), subject.boxes)
    for r, (x0, y0, x1, y1) in enumerate(subject.boxes.long().tolist()):
        covered = subject.x.clone()
        covered[..., y0:y1, x0:x1] = subject.fill[..., y0:y1, x0:x1]
        whole, without = (float(subject.model.decision_function(x)[0, 1]) for x in (subject.x, covered))
        assert float(found[r]) == pytest.approx(whole - without, abs=1e-5)


@pytest.mark.filterwarnings("ignore")  # theirs
def test_every_peer_gives_a_map(models: dict[str, Carrot]) -> None:
    pytest.importorskip("captum", reason="pip install '.[bench]'")
    pytest.importorskip("pytorch_grad_cam", reason="pip install '.[bench]'")
    asked = [("patches", peers.integrated_gradients), ("patches", peers.occlusion)]
    for name, explain in [*asked, *((name, peers.grad_cam) for name in ("patches", "disjoint"))]:
        found = explain(Subject(models[name], BIRDS.image(12)), 1)
        assert found.shape == (160, 160)
        assert bool(torch.isfinite(found).all())
        assert float(found.abs().max()) > 0.0


def test_random_orders_are_scored_as_curves_are_and_never_beat_contributions_under_sum(
    models: dict[str, Carrot],
) -> None:
    case = Case(models["sum"], models["patches"], TEST, 1)
    at_random = case.random_areas()
    rank = torch.rand(1000, 13, generator=torch.Generator().manual_seed(1)).argsort(dim=1)
    for i in (0, 7):
        curve = case.coalitions.deletion(torch.argsort(rank[i]))[:, 0]
        assert float(at_random[i]) == pytest.approx(area(curve), abs=1e-12)
    best = case.dropped(order_of(case.parts.token))
    assert best["tile level, deletion"] < float(at_random.min())
    shown = case.shown(order_of(case.parts.token))
    assert shown["pixel level, gain"] > 0.0
    assert case.apart < 1e-4


@pytest.mark.filterwarnings("ignore")  # theirs
def test_a_row_for_each_explainer(models: dict[str, Carrot]) -> None:
    names = ["contribution", "drop", "patches: drop", "random", "centre", "rollout"]
    rows, facts = compare(models["sum"], models["patches"], TEST, [0, 2], 1, names, is_checked=False)
    assert [row["explanation"] for row in rows] == ["chance", *names]
    assert facts["beaten by contributions on"] == 2
    assert facts["lost"] == dict.fromkeys(["random orders", *names[2:]], 0)
    assert rows[1]["pixel level, gain"]["n"] == 1  # type: ignore[index]
    assert rows[1]["AUC"]["n"] == 2  # type: ignore[index]


def test_drops_are_checked_against_captum(models: dict[str, Carrot]) -> None:
    pytest.importorskip("captum", reason="pip install '.[bench]'")
    pytest.importorskip("pytorch_grad_cam", reason="pip install '.[bench]'")
    check(case := Case(models["tiles"], models["patches"], TEST, 0))
    case.parts.drop.mul_(1.001)
    with pytest.raises(SystemExit, match="not those of FeatureAblation"):
        check(case)


def test_tiles_of_mosaics_are_passed_once_and_are_the_views(models: dict[str, Carrot]) -> None:
    pictures = [BIRDS.image(i) for i in (12, 13, 14, 15)]
    known: dict[str, Tensor] = {}
    on = OnMosaics(models["disjoint"], "tiles:2@0,4@0", known)
    m = Mosaic(mosaic(pictures, 2, 80)[0], (0, 1, 2, 3))
    first = on.tokens(m.image)
    view = on.classifier.encoder.view
    assert torch.allclose(first.H, view.encode(view.transform(m.image)[None]).H, atol=1e-2)  # float16
    assert len(known) == 20
    again = on.tokens(mosaic(pictures[::-1], 2, 80)[0])
    assert len(known) == 20
    assert torch.equal(again.H[0, 0], first.H[0, 3])
    found = dict(on.shares(m))
    assert found["chance"] == pytest.approx(0.25)
    assert all(0.0 <= share <= 1.0 for share in found.values())
    trace, boxes = on.classifier.trace(first), view.boxes(m.image.size)
    shares = [share for name, share in on.shares(m) if name == "drop"]
    parts = [take_apart(trace, models["disjoint"].head_.logit(c)) for c in range(4)]
    assert shares == pytest.approx([m.share(part.drop, boxes, c) for c, part in enumerate(parts)], abs=1e-9)
    shares = [share for name, share in on.shares(m) if name == "contribution"]
    assert shares == pytest.approx([m.share(part.token, boxes, c) for c, part in enumerate(parts)], abs=1e-9)
    patches = [name for name, _ in mosaics.on_patches(models["patches"], m, False)]
    assert set(patches) == {"contribution", "drop", "contribution, less the other", "chance", "random", "centre"}


def test_the_most_certain_right_picture_of_each_class_is_chosen(models: dict[str, Carrot], tmp_path: Path) -> None:
    tests = list(range(12))  # what it was fitted on
    best, (accuracy,) = mosaics.chosen([models["patches"]], BIRDS, tests, tmp_path)
    p = models["patches"].predict_proba([BIRDS.image(i) for i in tests])
    y = np.array([BIRDS.records[i].label for i in tests])
    right = p.argmax(axis=1) == y
    assert accuracy == pytest.approx(right.mean())
    for c, i in best.items():
        assert i == max((j for j in tests if y[j] == c and right[j]), key=lambda j: p[j, c])


def test_few_pictures_are_the_first_of_the_first_classes() -> None:
    train, tests = mosaics.few(BIRDS, classes=2, train=2, test=1)
    assert tuple(train.indices) == (0, 1, 3, 4)
    assert train.classes == BIRDS.classes[:2]
    assert tests == [12, 13]


def test_the_page_is_its_results() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "explainers.md").read_text()
    for table in explainers_table.TABLES.values():
        assert table() in page
