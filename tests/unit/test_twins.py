"""Pictures that hide each other's wrong label, and pictures on both sides of a split: planted, they are all found."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from carrot import Carrot, RidgeHead
from carrot.classifier.audit import Audit
from carrot.classifier.fitted import Fitted
from carrot.classifier.records import TrainingRecord
from carrot.classifier.twins import Group, hidden_groups
from carrot.cli import main
from carrot.data.toy import ToyBirds
from carrot.embedding.setting import Setting
from carrot.evaluation.calibration import fit_temperature, probabilities
from carrot.evaluation.suspects import label_suspects

F64 = torch.float64
SPECIES, EACH, HIDDEN = 4, 8, 24
BIRDS = ToyBirds(n_train_per_class=EACH, n_test_per_class=0, n_species=SPECIES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of birds: three near copies of one, all labelled as another species, and two copies held out."""
    root = tmp_path_factory.mktemp("birds")
    for i in range(len(BIRDS)):
        species = BIRDS.true_labels[i]
        for split in ("train", "test"):
            (root / split / f"s{species}").mkdir(parents=True, exist_ok=True)
        if i != HIDDEN:
            BIRDS.image(i).save(root / "train" / f"s{species}" / f"{i:02d}.png")
    first = BIRDS.image(HIDDEN)
    for k in range(3):
        near = first.copy()
        near.putpixel((k, 0), (10 * k, 255, 0))
        near.save(root / "train" / "s2" / f"copy{k}.png")
    first.save(root / "test" / "s3" / "leak.png")
    (root / "test" / "s0" / "same.png").write_bytes((root / "train" / "s1" / f"{EACH:02d}.png").read_bytes())
    other = Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 20).convert("RGB")
    other.save(root / "test" / "s1" / "no_copy.png")
    other.rotate(90).save(root / "test" / "s2" / "no_copy.png")
    return root


@pytest.fixture(scope="module")
def model(folder: Path) -> Carrot:
    return Carrot("toy", regions="tiles:2@0").fit(folder, tokens=folder.parent / "tokens")


@pytest.fixture(scope="module")
def audit(model: Carrot, folder: Path) -> Audit:
    return model.audit(folder)


def test_copies_with_one_wrong_label_are_judged_together(model: Carrot, audit: Audit) -> None:
    copies = {f"train/s2/copy{k}.png" for k in range(3)}
    group = next(group for group in audit.groups if copies & set(group.ids))
    assert set(group.ids) == copies
    assert (group.label, group.suggested) == ("s2", "s3")
    assert group.alone >= 1
    head, fitted = model.head_, model.fitted
    rows = [fitted.row_of(name) for name in group.ids]
    refit = RidgeHead(head.lam, True).fit(
        torch.stack([g for i, g in enumerate(head.G) if i not in rows]),
        torch.stack([y for i, y in enumerate(head.Y) if i not in rows]),
    )
    p = probabilities(refit.predict(head.G[rows]), model.temperature_)
    assert group.probability == pytest.approx(float(p[:, fitted.classes.index("s2")].max()), rel=1e-8)
    assert "without all 3 the model says s3" in str(audit)
    assert "hide each other" in str(audit)
    assert "without all 3 the model says s3" in audit._repr_html_()
    assert json.loads(audit.to_json())["groups"][0]["ids"] == list(audit.groups[0].ids)


def test_pictures_on_both_sides_are_named(audit: Audit) -> None:
    found = {pair.second.removeprefix("test/"): pair for pair in audit.leaks}
    assert set(found) == {"s3/leak.png", "s0/same.png"}
    assert found["s0/same.png"].same_file
    assert found["s0/same.png"].labels == ("s1", "s0")
    assert not found["s3/leak.png"].same_file
    assert found["s3/leak.png"].cosine > 0.99
    assert found["s3/leak.png"].labels == ("s2", "s3")
    assert "same.png   the same file, labelled s1 and s0" in str(audit)
    assert "2 held-out pictures nearly are training pictures" in audit._repr_html_()


def test_planted_groups_are_found_among_others() -> None:
    """24 groups of 2 to 4 near copies each with the same wrong label: alone they are believed, together they aren't."""
    rng = torch.Generator().manual_seed(0)
    C, n = 10, 300
    y = torch.arange(n) % C
    G = torch.randn(C, 150, generator=rng, dtype=F64)[y] + torch.randn(n, 150, generator=rng, dtype=F64)
    rows, labels, planted = [G], y.tolist(), list[tuple[int, ...]]()
    for k, i in enumerate(torch.randperm(n, generator=rng)[:24].tolist()):
        new = G[i] + 0.05 * torch.randn(1 + k % 3, 150, generator=rng, dtype=F64)
        at = range(len(labels), len(labels) + len(new))
        labels[i] = (labels[i] + 1 + k % (C - 1)) % C
        labels += [labels[i]] * len(new)
        rows.append(new)
        planted.append((i, *at))
    head = RidgeHead(30.0, True).fit(torch.cat(rows), torch.tensor(labels))
    loo = head.loo_predict()
    T = fit_temperature(loo, torch.tensor(labels))
    judged = label_suspects(loo, torch.tensor(labels), T)
    hidden = {group for group in planted if bool((judged.margin[list(group)] >= 0).any())}
    assert len(hidden) > 5, "copies hide each other"

    records = tuple(TrainingRecord(str(i), label, str(i)) for i, label in enumerate(labels))
    found = hidden_groups(Fitted(head, Setting("identity"), tuple(map(str, range(C))), records, T), judged, [])
    sets = {tuple(map(int, group.ids)) for group in found}
    assert len(hidden & sets) >= 0.9 * len(hidden)
    strangers = [group for group in sets if not any(set(group) & set(p) for p in planted)]
    assert len(strangers) <= 0.25 * len(sets), "and hardly any other"
    assert [g.probability for g in found] == sorted(g.probability for g in found)


def test_a_suspect_argues_its_case(model: Carrot, audit: Audit) -> None:
    suspect = audit.suspects[0]
    found = audit.argue(suspect.id)
    head, row = model.head_, model.fitted.row_of(suspect.id)
    lead = [model.classes_.tolist().index(name) for name in (suspect.label, suspect.suggested)]

    def said_without(rows: list[int]) -> float:
        logits = head.without(rows).predict(head.G[row])
        return float(logits[lead[0]] - logits[lead[1]])

    for one in (*found.for_label, *found.against_label):
        fall = said_without([row]) - said_without([row, model.fitted.row_of(one.id)])
        assert one.effect == pytest.approx(fall, abs=1e-9)
        assert one.region in model.classifier.region_places
        assert one.boxes[0] is not None
        assert one.boxes[1] is not None
    assert [one.effect for one in found.for_label] == sorted((o.effect for o in found.for_label), reverse=True)
    assert all(one.effect > 0 for one in found.for_label)
    assert all(one.effect < 0 for one in found.against_label)
    relabelled = RidgeHead(head.lam, True).fit(head.G, model.fitted.labels.index_fill(0, torch.tensor([row]), lead[1]))
    assert found.relabelled[0] == int((relabelled.loo_predict().argmax(1) == relabelled.Y.argmax(1)).sum())
    assert found.relabelled[0] - found.right == suspect.relabel_right
    assert found.removed[1] - found.error == pytest.approx(suspect.remove_error)
    first = str(found).splitlines()[0]
    assert first.startswith(f"{suspect.id} is labelled {suspect.label}; without it the model says {suspect.suggested}")
    html = found._repr_html_()
    assert html.count("<img") == 1 + 2 * len((*found.for_label, *found.against_label))
    assert "conformal p-value" in html
    assert json.loads(found.to_json())["relabelled"]["right"] == found.relabelled[0]


def test_who_hides_with_others_says_so(audit: Audit) -> None:
    found = audit.argue("train/s2/copy1.png")
    assert found.group is not None
    assert "train/s2/copy2.png" in found.group.ids
    assert str(found).splitlines()[0].endswith("says s2: not doubtful")
    assert "without all 3 the model says s3" in str(found).splitlines()[1]
    assert found.for_label[0].id in found.group.ids, "its copies speak for it"
    assert found.copies == tuple(p for p in audit.duplicates if "train/s2/copy1.png" in (p.first, p.second))
    assert len(found.copies) == 2
    assert "nearly the same" not in str(found), "the group has told them"
    alone = str(dataclasses.replace(found, group=None)).splitlines()
    assert alone[1] == "nearly the same picture as train/s2/copy0.png, train/s2/copy2.png, labelled s2"


def test_who_speaks_for_a_label_that_none_has_says_so(audit: Audit) -> None:
    case = audit.argue(audit.suspects[0].id)
    s, one = case.suspect, case.against_label[0]
    stranger = dataclasses.replace(case, for_label=(dataclasses.replace(one, label=s.suggested, effect=0.1),))
    told = f"for {s.label} (none is labelled so: they speak against {s.suggested}):"
    assert told in str(stranger).splitlines()
    own = dataclasses.replace(case, for_label=(dataclasses.replace(one, label=s.label, effect=0.1),))
    assert f"for {s.label}:" in str(own).splitlines()


def test_only_doubtful_pictures_have_a_price(audit: Audit) -> None:
    for s in audit.suspects:
        assert (s.relabel_right is not None) == s.is_doubtful
        assert (s.remove_error is not None) == s.is_doubtful
        assert s.p_value is not None
        assert 0 < s.p_value <= 1
    assert all(s.p_value is None for s in audit.held_out)


def test_who_can_not_argue_is_told(model: Carrot, audit: Audit) -> None:
    with pytest.raises(ValueError, match="is no training picture"):
        audit.argue("nobody.png")
    with pytest.raises(ValueError, match=r"ask an audit that `Carrot\.audit` returned"):
        Audit.of(model.fitted).argue(audit.suspects[0].id)


def test_by_command(model: Carrot, audit: Audit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save(tmp_path / "m")
    assert main(["audit", str(tmp_path / "m"), "--why", audit.suspects[0].id]) == 0
    assert capsys.readouterr().out == f"{audit.argue(audit.suspects[0].id)}\n"
    assert main(["audit", str(tmp_path / "m"), "--why", "train/s2/copy1.png"]) == 0
    assert capsys.readouterr().out == f"{audit.argue('train/s2/copy1.png')}\n"
    assert main(["audit", str(tmp_path / "m"), "--why", "nobody.png"]) == 1
    assert "is no training picture" in capsys.readouterr().err


def test_cleanlab_gets_what_it_takes(model: Carrot) -> None:
    """Its own rules (``cleanlab.internal.validation``): whole labels 0 .. C - 1, every row a distribution."""
    labels, p = model.pred_probs()
    assert labels.shape == (len(model.records_),)
    assert p.shape == (len(labels), len(model.classes_))
    assert labels.dtype.kind == "i"
    assert labels.tolist() == [record.label for record in model.records_]
    assert set(labels.tolist()) == set(range(p.shape[1]))
    assert p.min() >= 0
    assert p.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    row, head = 5, model.head_
    refit = probabilities(head.without([row]).predict(head.G[row])[None], model.temperature_)
    assert p[row] == pytest.approx(refit[0].numpy(), abs=1e-9)


def test_a_group_says_how_many_are_believed() -> None:
    group = Group(("a", "b", "c"), "robin", "wren", 0.1, True, 2)
    assert "2 are believed" in str(group)
    assert "1 is believed" in str(dataclasses.replace(group, alone=1))
    assert "each is believed" in str(dataclasses.replace(group, alone=3))
