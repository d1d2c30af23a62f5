"""Regions of training pictures hidden, one at a time: each as replacing that picture, and refitting, would answer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from carrot import Carrot, RidgeHead
from carrot._ridge import blocks
from carrot.attribution import replacement_effect
from carrot.classifier.classifier import Classifier
from carrot.data.toy import ToyBirds
from carrot.explanation.hiding import Hiding

BIRDS = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=3)
TEST = BIRDS.image(len(BIRDS) - 1)
N_TRAIN = 9
SETTINGS: dict[str, dict[str, Any]] = {
    "tiles": {"regions": "tiles:2"},
    "tiles, primal": {"regions": "tiles:2", "lift": "relu:6"},
    "tiles, diffused": {"regions": "tiles:2", "t": 1.0, "lift": "identity"},
    "tiles, summed": {"regions": "tiles:2", "readout": "sum", "fit_intercept": False},
    "tiles, and a share of the whole": {"regions": "tiles:2", "global_share": 0.2, "class_weight": "balanced"},
    "summed and diffused, with a share": {"regions": "tiles:2", "readout": "sum", "global_share": 0.2, "t": 1.0},
    "patches": {"coarsen": 5, "t": 0.5},
}
LAM, EPS = 0.01, 2.0**-52


@pytest.fixture(scope="module", params=SETTINGS)
def model(request: pytest.FixtureRequest) -> Carrot:
    settings = {"lam": LAM, **SETTINGS[request.param]}
    return Carrot("toy", **settings).fit(BIRDS, sample_weight=[0.5 + i / 6 for i in range(N_TRAIN)])


def tolerance(model: Carrot) -> float:
    """10 x eps x condition number of the ridge system."""
    head = model.head_
    rows = head.sample_weight.sqrt()[:, None] * (head.G.double() - head.g_mean)
    return 10 * EPS * (1.0 + float(torch.linalg.matrix_norm(rows, 2)) ** 2 / head.lam)


def test_each_is_a_replacement_and_a_refit(model: Carrot) -> None:
    classifier, head, trace = model.classifier, model.head_, model.trace(TEST)
    logit = head.logit(2, 0)
    found = model.hidden_regions(TEST, 2, 0)
    N = trace.regions.num_regions
    assert found.effects.shape == (N_TRAIN, N)
    scale = tolerance(model) * (1.0 + float(logit.predict(trace.g).abs()))
    for i, record in enumerate(model.records_):
        one = classifier.pooling.trace(classifier.encoder.tokens([BIRDS.image(i)]))
        for k in {0, N // 2, N - 1}:
            z = one.shown(torch.arange(N) != k)
            torch.testing.assert_close(classifier.hiding[0].without(i, k), z, rtol=1e-12, atol=1e-12)
            expected = logit.column(replacement_effect(head, trace.g, i, z))
            assert float(found.effects[i, k]) == pytest.approx(float(expected), abs=scale), (record.id, k)
            G = head.G.double().index_copy(0, torch.tensor([i]), z[None])
            again = RidgeHead(LAM, head.fit_intercept).fit(G, head.Y, head.sample_weight).logit(2, 0)
            change = float(again.predict(trace.g) - logit.predict(trace.g))
            assert float(found.effects[i, k]) == pytest.approx(change, abs=scale), (record.id, k)
    again = model.hidden_regions(TEST, 2, 0, ids=[model.records_[4].id, model.records_[1].id])
    torch.testing.assert_close(again.effects, found.effects[[4, 1]], rtol=0, atol=scale)


def test_top_is_what_holds_the_logit_up_and_verify_shows_and_fits(model: Carrot) -> None:
    found = model.hidden_regions(TEST, k=4, verify=True)
    assert found.difference is not None
    # float16 tokens: the backbone's own rounding, of other batches, may turn over a last bit of some
    assert found.difference < 1e-3 * float(found.effects.abs().max())
    effects = [one.effect for one in found.top]
    assert effects == found.effects.flatten().sort().values[:4].tolist()
    for one in found.top:
        row = found.training_ids.index(one.training_id)
        assert float(found.effects[row, one.region]) == one.effect
        assert one.label == BIRDS.classes[BIRDS.records[row].label]
        assert one.box is None or (len(one.box) == 4 and max(one.box) <= 160.0)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Carrot("toy", regions="tiles:2", lam=LAM).fit(BIRDS)
    whole = model.hidden_regions(TEST, 1).effects
    M = model.head_.G.shape[1]
    for entries in (1, M, 3 * M, 9 * M):  # of less than a picture, of some of its regions, of two pictures
        monkeypatch.setattr(blocks, "ENTRIES", entries)
        classifier = Classifier(model.classifier.encoder, model.fitted, model.classifier.find)
        hiding, missing = classifier.hiding
        assert not missing
        found = hiding.effects(model.head_.logit(1), model.trace(TEST).g)
        torch.testing.assert_close(found, whole, rtol=0, atol=tolerance(model))


def test_a_shard_of_kept_tokens_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from carrot.store.shards import EmbeddingStore

    model = Carrot("toy", regions="tiles:1,2", lam=LAM).fit(BIRDS, tokens=tmp_path)
    read, reads = EmbeddingStore.read, list[int]()
    monkeypatch.setattr(EmbeddingStore, "read", lambda self, shard: (reads.append(shard), read(self, shard))[1])
    monkeypatch.setattr(Classifier, "find", lambda self, record: pytest.fail("a picture was looked for"), raising=False)
    first = model.classifier.hiding
    assert sorted(reads) == [0, 0, 1, 1]  # 9 pictures of 8 a shard, of two scales
    assert first is model.classifier.hiding
    assert first[0].index == list(range(N_TRAIN))


def test_pictures_that_are_gone_are_named(tmp_path: Path) -> None:
    model = Carrot("toy", regions="tiles:2", lam=LAM).fit(BIRDS)
    expected = model.hidden_regions(TEST, 1)
    model.save(tmp_path / "m")
    alone = Carrot.load(tmp_path / "m")
    alone.encoder = model.encoder
    found = alone.hidden_regions(TEST, 1)
    assert found.effects.numel() == 0
    assert not found.top
    assert len(found.missing) == N_TRAIN
    assert "nothing is said of toy/train/0000/0000: it could not be found" in str(found)
    assert f"and {N_TRAIN - 3} more" in str(found)
    assert not expected.missing
    assert Hiding(model.head_, model.classifier.pooling, []).index == []
    with pytest.raises(IndexError, match="`place` must be one of 0 pictures"):
        Hiding(model.head_, model.classifier.pooling, []).without(0, 0)


def test_it_says_so_in_words() -> None:
    tiles = Carrot("toy", regions="tiles:2", global_share=0.2, lam=LAM).fit(BIRDS)
    found = tiles.hidden_regions(TEST, 1, 2, k=2, verify=True)
    first = found.top[0]
    text = str(found).splitlines()
    assert text[0] == (
        f"picture 0: the logit of {BIRDS.classes[1]} less that of {BIRDS.classes[2]} is {found.logit:.4f}; it would "
        "be, had never been shown"
    )
    assert text[1] == f"    {-first.effect:.4f} lower  {first.name} of {first.training_id} ({first.label})"
    assert text[-1].startswith("    shown and fitted again, really: largest difference")
    whole = tiles.hidden_regions(TEST, 1, k=9 * 5).top
    assert {one.place for one in whole if one.region == 4} == {"the whole picture"}
    assert {one.name for one in whole if one.region == 4} == {"region 4 (the whole picture)"}
    assert first.name == f"tile {first.region} ({first.place})"
    assert all((one.box is None) == (one.region == 4) for one in whole)
    assert repr(found) == "<HiddenRegions of picture 0: 9 x 5 effects>"
    told = json.loads(json.dumps(found.to_dict()))
    assert told["level"] == "pixels"
    assert told["top"][0]["place"] == first.place
    assert torch.tensor(told["effects"], dtype=torch.float64).equal(found.effects)
    patches = Carrot("toy", lift="identity", coarsen=5, lam=LAM).fit(BIRDS).hidden_regions(TEST)
    assert patches.to_dict()["level"] == "tokens"
    assert "the other blocks of patches of that picture have seen what is hidden" in str(patches)


@pytest.mark.usefixtures("as_user")
def test_what_can_not_be_asked_is_refused() -> None:
    model = Carrot("toy", regions="tiles:2", lift="identity", lam=LAM).fit(BIRDS)
    with pytest.raises(ValueError, match="`k` must be a whole number >= 1"):
        model.hidden_regions(TEST, k=0)
    with pytest.raises(ValueError, match="'nobody' is no training picture"):
        model.hidden_regions(TEST, ids="nobody")
    with pytest.raises(ValueError, match="is no class"):
        model.hidden_regions(TEST, "nothing")
    G = model.head_.G.double()
    for wrong in (G[:2], G[:2, None, 1:], G[:3, None]):
        with pytest.raises(ValueError, match="`G_new` must"):
            model.head_.replacements([0, 1], wrong)
