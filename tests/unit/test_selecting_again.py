"""Settings and lam chosen again without each training picture, against ``choose`` run on the others, really."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from carrot import Carrot, RidgeHead, cli
from carrot.classifier import selecting
from carrot.classifier.fitting import tokens_of, training_set
from carrot.classifier.selecting import Plan, choose
from carrot.classifier.selecting_again import SelectedAgain, choose_again
from carrot.data.toy import ToyBirds
from carrot.embedding.encoder import Encoder
from carrot.embedding.setting import Setting
from carrot.evaluation.selection import Candidate

pytestmark = pytest.mark.filterwarnings("ignore:lam = ")
BIRDS = ToyBirds(n_train_per_class=5, n_test_per_class=0, n_species=4)
GRID: dict[str, Any] = {
    "regions": ["patches", "tiles:2"],
    "lift": ["identity"],
    "tau": [0.0, 0.5],
    "power": [8.0],
    "t": [0.0, 1.0],
    "sigma_spatial": [0.5],
    "sigma_feature": [1.0],
}


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_what_choosing_without_the_picture_chooses(monkeypatch: pytest.MonkeyPatch, weighted: bool) -> None:
    encoder = Encoder("toy")
    train, _ = training_set(BIRDS, None)
    plan = Plan.of(GRID, encoder, len(train.records))
    w = torch.linspace(0.5, 2.0, len(train.records), dtype=torch.float64) if weighted else None
    held: dict[Setting, list[float]] = {}

    def with_held(G: torch.Tensor, labels: torch.Tensor, s: Setting, intercept: bool, w: Any) -> Candidate[Setting]:
        if s not in held:  # the penalties of all pictures
            whole = RidgeHead("loo", True).fit(caches.of(s).embed(rows, s), every, every_w)
            assert whole.loo_path is not None
            held[s] = whole.loo_path.lams.tolist()
        head = RidgeHead("loo", intercept, lams=held[s]).fit(G, labels, w)
        assert head.loo_path is not None
        right = head.loo_predict().argmax(dim=1) == labels
        return Candidate(s, head, float(head.loo_path.mse.min()), float(right.double().mean()))

    with tokens_of(encoder, train, None) as caches:
        for s in plan.plain:
            caches.of(s)
        rows, labels = caches.readable()
        every, every_w = labels, w
        best, _ = choose(caches, rows, labels, plan, True, w)
        again = choose_again(caches, rows, labels, plan, best.setting, True, w)
        monkeypatch.setattr(selecting, "candidate", with_held)
        moved = (again.other_setting | again.other_lam).nonzero().flatten().tolist()
        assert moved, "nothing would be chosen otherwise: a test of nothing"
        for i in {0, *moved[:2], *moved[-1:]}:
            rest = [k for k in range(len(rows)) if k != i]
            left = choose(caches, [rows[k] for k in rest], labels[rest], plan, True, None if w is None else w[rest])[0]
            assert left.setting == again.settings[i]
            assert left.head.lam == float(again.lams[i])
            s = left.setting
            pi = caches.of(s).pool(rows, [s])[0] if s.t else None
            g = caches.of(s).embed(rows, s, pi)[i]
            assert torch.allclose(left.head.predict(g), again.logits[i], atol=1e-8)
    assert torch.allclose(again.with_all, best.head.loo_predict(), atol=1e-8)
    assert again.lam == best.head.lam


def test_what_it_says() -> None:
    a, b = Setting(), Setting(tau=0.5)
    again = SelectedAgain(
        chosen=a,
        lam=1.0,
        settings=(a, a, b),
        lams=torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64),
        labels=torch.tensor([0, 1, 1]),
        logits=torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64),
        with_all=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64),
    )
    assert "3 training pictures: another setting for 1, another lam for 1 more; 1 prediction of them differ" in str(
        again
    )
    assert "accuracy 0.6667, and 1.0000 with setting and lam held" in str(again)
    assert again.to_dict()["other_setting"] == 1
    assert "SelectedAgain" in repr(again)


def test_select_says_it_where_it_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = {"regions": ["patches"], "lift": ["identity"], "tau": [0.0, 0.5], "t": [0.0]}
    model = Carrot("toy").select(BIRDS, grid=grid)
    assert model.selected_again_ is None
    assert "Chosen again" not in capsys.readouterr().out
    model.select(BIRDS, grid=grid, again=True)
    assert str(model.selected_again_) in capsys.readouterr().out
    assert model.fit(BIRDS).selected_again_ is None
    for i, record in enumerate(BIRDS.records):
        folder = tmp_path / "pictures" / BIRDS.classes[record.label]
        folder.mkdir(parents=True, exist_ok=True)
        BIRDS.image(i).save(folder / f"{i}.png")
    asked = ["select", str(tmp_path / "pictures"), "--out", str(tmp_path / "model"), "--backbone", "toy", "--again"]
    flags = ["--regions", "patches", "--lift", "identity", "--tau", "0", "0.5", "--t", "0", "--json"]
    assert cli.main([*asked, *flags]) == 0
    assert json.loads(capsys.readouterr().out)["chosen_again"]["pictures"] == 16
