"""Every change of a fitted model is a refit of the pictures it then has: any verb, order, kind of label, thread."""

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import carrot
from carrot import Carrot, RidgeHead
from carrot.classifier.certificate import Certificate
from carrot.classifier.classifier import Classifier
from carrot.classifier.updates import Edits, change
from carrot.cli import main
from carrot.data.inputs import PictureList
from carrot.data.toy import ToyBirds

pytestmark = pytest.mark.usefixtures("surveyed_once")

SPECIES, N = 4, 5
EPS = torch.finfo(torch.float64).eps


@pytest.fixture(scope="module")
def birds() -> ToyBirds:
    return ToyBirds(n_train_per_class=N, n_test_per_class=2, n_species=SPECIES)


@pytest.fixture(scope="module")
def images(birds: ToyBirds) -> list[Image.Image]:
    return [birds.image(i) for i in range(len(birds))]


@pytest.fixture(scope="module")
def fitted(birds: ToyBirds) -> Carrot:
    return Carrot("toy", lift="identity", tau=0.5).fit(birds)


def copy(model: Carrot, tmp_path: Path, name: str = "m") -> Carrot:
    model.save(tmp_path / name)
    return Carrot.load(tmp_path / name)


def refit(model: Carrot) -> RidgeHead:
    """Fit what the model says that it has, from its records alone."""
    labels = torch.tensor([record.label for record in model.records_])
    Y = torch.nn.functional.one_hot(labels, len(model.classes_)).double()
    own = torch.tensor([record.weight for record in model.records_], dtype=torch.float64)
    weight = model.class_weight
    factor = torch.ones(len(model.classes_), dtype=torch.float64)
    if weight == "balanced":
        factor = own.sum() / (len(factor) * torch.stack([own[labels == c].sum() for c in range(len(factor))]))
    elif weight is not None:
        factor = torch.tensor([dict(weight).get(name, 1.0) for name in model.fitted.classes], dtype=torch.float64)
    return RidgeHead(model.head_.lam, True).fit(model.head_.G, Y, own * factor[labels])


def assert_is_refit(model: Carrot) -> None:
    expected = refit(model)
    scale = expected.W_star.abs().max()
    assert (
        float((model.head_.W_star - expected.W_star).abs().max()) <= 1e-11 * scale
    )  # 10 eps x condition numbers up to 5e3
    assert float((model.head_.bias - expected.bias).abs().max()) <= 1e-11 * (1 + expected.bias.abs().max())
    torch.testing.assert_close(model.head_.loo_predict(), expected.loo_predict(), rtol=0, atol=1e-9)
    assert torch.equal(model.head_.Y, expected.Y)


def relabelled(model: Carrot) -> dict[str, Any]:
    return {model.records_[1].id: model.classes_[2], model.records_[N + 1].id: model.classes_[0]}


CHANGES: dict[str, Callable[[Carrot, list[Image.Image]], Certificate]] = {
    "forget": lambda m, x: m.forget([m.records_[0].id, m.records_[7].id]),
    "forget a class": lambda m, x: m.forget(classes=m.classes_[1]),
    "relabel": lambda m, x: m.relabel(relabelled(m)),
    "relabel to a new class": lambda m, x: m.relabel({m.records_[0].id: "phoenix"}, new_classes=True),
    "add": lambda m, x: m.add(x[-2:], [m.classes_[0], m.classes_[3]]),
    "add a new class": lambda m, x: m.add(x[-2:], ["phoenix", "phoenix"], new_classes=True),
}


@pytest.mark.parametrize("class_weight", [None, "balanced", "by class"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_a_refit_of_what_is_there(
    fitted: Carrot, birds: ToyBirds, images: list[Image.Image], tmp_path: Path, name: str, class_weight: Any
) -> None:
    if class_weight is None:
        model = copy(fitted, tmp_path)
    else:
        by_class = {birds.classes[0]: 3.0, birds.classes[2]: 0.25} if class_weight == "by class" else class_weight
        model = Carrot("toy", lift="identity", class_weight=by_class, lam=fitted.head_.lam).fit(birds)
    certificate = CHANGES[name](model, images)
    assert_is_refit(model)
    assert certificate.largest_difference is not None
    assert certificate.largest_difference <= 1e-11 * certificate.largest_weight
    assert certificate.pictures_after == len(model.records_) == len(model.head_.G)
    again = copy(model, tmp_path, "again")
    assert np.array_equal(again.decision_function(images[-1]), model.decision_function(images[-1]))
    assert (again.classes_ == model.classes_).all()
    assert again.class_weight == model.class_weight
    assert [record.weight for record in again.records_] == [record.weight for record in model.records_]


def test_certificates_say_what_changed(
    fitted: Carrot, birds: ToyBirds, images: list[Image.Image], tmp_path: Path
) -> None:
    model = copy(fitted, tmp_path)
    ids = [record.id for record in model.records_]
    certificate = model.relabel({ids[0]: birds.classes[1]})
    was = fitted.records_[0]
    assert certificate.relabelled == (
        {"id": ids[0], "sha256": was.sha256, "from": birds.classes[0], "to": birds.classes[1]},
    )
    assert f"{ids[0]} ({birds.classes[0]} -> {birds.classes[1]})" in str(certificate)
    certificate = model.add(images[-1], ["phoenix"], ["p.png"], new_classes=True)
    assert certificate.classes_added == ("phoenix",)
    assert [p["label"] for p in certificate.added] == ["phoenix"]
    assert "phoenix" in model.classes_
    certificate = model.forget(classes=["phoenix"])
    assert certificate.classes_removed == ("phoenix",)
    assert [p["id"] for p in certificate.forgotten] == ["p.png"]
    certificate = model.relabel({ids[0]: birds.classes[0]})
    assert np.allclose(model.decision_function(images[:3]), fitted.decision_function(images[:3]), atol=1e-11)


@pytest.mark.usefixtures("as_user")
def test_what_can_not_be_changed(fitted: Carrot, birds: ToyBirds, images: list[Image.Image], tmp_path: Path) -> None:
    model = copy(fitted, tmp_path)
    ids, names = [record.id for record in model.records_], birds.classes
    of_class = [record.id for record in model.records_ if record.label == 2]
    before = model.fitted
    for call, message in (
        (lambda: model.relabel({"nobody": names[0]}), "no training picture"),
        (lambda: model.relabel({ids[0]: "phoenix"}), "no class of this model.*new_classes=True"),
        (lambda: model.relabel({ids[0]: names[0]}), "already"),
        (lambda: model.relabel(dict.fromkeys(of_class, names[0])), "Forget the class itself"),
        (lambda: model.relabel({}), "nothing"),
        (lambda: model.forget(of_class), "left without.*Forget the class itself"),
        (lambda: model.forget(classes=names[:-1]), "At least two classes"),
        (lambda: model.forget(classes="phoenix"), "no class"),
        (lambda: model.add(images[-1], ["phoenix"]), "new_classes=True"),
        (lambda: model.add(images[-1], [names[0]], sample_weight=[0.0]), "> 0"),
        (lambda: model.add([images[-1], images[-1]], [names[0]] * 2), "over again"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
        assert model.fitted is before, "a refusal changes nothing"
    with pytest.raises(TypeError, match="kind"):
        model.add(images[-1], [77], new_classes=True)


EDITS = """id,action,label
{0},forget,
{1},relabel,{a}
new.png,add,{b}
"""


def test_a_table_of_edits_is_applied_whole(
    fitted: Carrot, birds: ToyBirds, images: list[Image.Image], tmp_path: Path
) -> None:
    model, other = copy(fitted, tmp_path), copy(fitted, tmp_path, "other")
    ids = [record.id for record in model.records_]
    images[-1].save(tmp_path / "new.png")
    table = tmp_path / "edits.csv"
    table.write_text(EDITS.format(ids[0], ids[1], a=birds.classes[3], b=birds.classes[2]))
    certificate = model.apply(table)
    other.forget(ids[0])
    other.relabel({ids[1]: birds.classes[3]})
    other.add(tmp_path / "new.png", [birds.classes[2]], ["new.png"])
    assert [r.id for r in model.records_] == [r.id for r in other.records_]
    assert np.allclose(model.head_.W_star, other.head_.W_star, atol=1e-11 * float(other.head_.W_star.abs().max()))
    assert (len(certificate.forgotten), len(certificate.relabelled), len(certificate.added)) == (1, 1, 1)
    assert_is_refit(model)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_tables_of_edits_are_read_as_spreadsheets_write_them(
    fitted: Carrot, birds: ToyBirds, tmp_path: Path, separator: str, encoding: str
) -> None:
    model = copy(fitted, tmp_path)
    ids = [record.id for record in model.records_[:2]]
    lines = [["ID", " Action", "label"], [ids[0], "Forget", ""], [ids[1], "RELABEL", birds.classes[2]]]
    (tmp_path / "e.csv").write_bytes("\r\n".join(separator.join(line) for line in lines).encode(encoding))
    certificate = model.apply(tmp_path / "e.csv")
    assert [p["id"] for p in (*certificate.forgotten, *certificate.relabelled)] == ids
    rows = [{"id": model.records_[1].id, "action": "forget", "label": float("nan")}]  # as pandas gives an empty cell
    assert len(model.apply(rows).forgotten) == 1


@pytest.mark.usefixtures("as_user")
def test_what_was_meant_is_said(fitted: Carrot, birds: ToyBirds) -> None:
    name, label = fitted.records_[0].id, birds.classes[0]
    for call, error, message in (
        (lambda: fitted.relabel(name, label), TypeError, "id: label"),  # type: ignore[arg-type]
        (lambda: fitted.forget(61), TypeError, "ids of training pictures"),  # type: ignore[arg-type]
        (lambda: fitted.forget(label), ValueError, "It is a class.*classes="),
        (lambda: fitted.forget(f"my/{name}"), ValueError, f"Did you mean '{name}'"),
        (lambda: fitted.explain(birds.image(0), target=label, against=label), ValueError, "are both"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_class_weights_of_a_class_that_is_gone_go_too(birds: ToyBirds, tmp_path: Path) -> None:
    by_class = {birds.classes[0]: 2.0, birds.classes[1]: 3.0}
    model = Carrot("toy", lift="identity", class_weight=by_class, lam=1.0).fit(birds)
    model.forget(classes=birds.classes[0])
    for one in (model, copy(model, tmp_path)):
        assert one.get_params()["class_weight"] == {birds.classes[1]: 3.0}
        assert_is_refit(one)


def test_a_new_class_that_looks_like_another_is_told(fitted: Carrot, birds: ToyBirds, tmp_path: Path) -> None:
    model = copy(fitted, tmp_path)
    with pytest.warns(UserWarning, match="look alike"):
        model.relabel({model.records_[0].id: f" {birds.classes[1].upper()}"}, new_classes=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\nx,y\n", "first line must name the columns"),
        ("id,action,label\n", "holds no edit"),
        ("id,action,label\n{0},burn,\n", r"line 2.*forget, relabel, add.*'burn'"),
        ("id,action,label\n{0},forget,\n{0},relabel,{a}\n", r"line 3.*line 2 already"),
        ("id,action,label\n{0},relabel,\n", r"line 2.*needs a label"),
        ("id,action,label\n{0},forget,{a}\n", r"line 2.*takes no label"),
        ("id,action,label\nnobody,forget,\n", r"line 2.*no training picture"),
        ("id,action,label\n{0},relabel,phoenix\n", r"line 2.*no class"),
        ("id,action,label\nnowhere.png,add,{a}\n", r"line 2.*no file"),
        ("id,action,label\n,forget,\n", r"line 2.*id is missing"),
        ("id,action,label\n{0},forget,,x\n", r"line 2.*more values"),
    ],
)
def test_a_bad_table_changes_nothing(fitted: Carrot, birds: ToyBirds, tmp_path: Path, text: str, message: str) -> None:
    model, before = fitted, fitted.fitted
    file = tmp_path / "edits.csv"
    file.write_text(text.format(model.records_[0].id, a=birds.classes[1]))
    with pytest.raises(carrot.DataError, match=message):
        model.apply(file)
    assert model.fitted is before


# ---- any sequence, from several threads


@given(st.data())
@settings(max_examples=8)
def test_threads_lose_no_update(
    fitted: Carrot, birds: ToyBirds, images: list[Image.Image], data: st.DataObject
) -> None:
    """What each of several threads asks of pictures of its own is all there in the end, and is the head of a refit."""
    model = pickle.loads(pickle.dumps(fitted))  # noqa: S301  (our own bytes)
    wanted = {record.id: birds.classes[record.label] for record in model.records_}
    jobs: list[list[Callable[[], Any]]] = [[], [], [], []]
    for place, name in enumerate(list(wanted)):
        what = (
            data.draw(st.sampled_from(["stay", "forget", "relabel"])) if place % N else "stay"
        )  # one of each class stays
        mine = data.draw(st.sampled_from(jobs))
        if what == "forget":
            del wanted[name]
            mine.append(partial(model.forget, name, verify=False))
        elif what == "relabel":
            others = [label for label in birds.classes if label != wanted[name]]
            wanted[name] = data.draw(st.sampled_from(others))
            mine.append(partial(model.relabel, {name: wanted[name]}, verify=False))
    for k in range(data.draw(st.integers(0, 3))):
        wanted[f"new {k}"] = label = data.draw(st.sampled_from(birds.classes))
        data.draw(st.sampled_from(jobs)).append(partial(model.add, images[-1 - k], [label], [f"new {k}"], verify=False))
    errors: list[BaseException] = []
    start = threading.Barrier(len(jobs) + 1)

    def run(mine: list[Callable[[], Any]]) -> None:
        start.wait()
        try:
            for job in mine:
                job()
        except BaseException as error:
            errors.append(error)

    def look() -> None:
        start.wait()
        for _ in range(5):
            assert set(model.predict(images[-2:])) <= set(birds.classes)

    threads = [threading.Thread(target=run, args=(mine,)) for mine in jobs] + [threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {record.id: birds.classes[record.label] for record in model.records_} == wanted
    assert_is_refit(model)


def test_a_save_undoes_no_change_of_another(fitted: Carrot, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m")
    one, two = Carrot.load(tmp_path / "m"), Carrot.load(tmp_path / "m")
    ids = [record.id for record in one.records_]
    one.forget(ids[0])
    one.save(tmp_path / "m")
    one.forget(ids[1])
    one.save(tmp_path / "m")
    two.forget(ids[2])
    for model in (two, fitted):
        with pytest.raises(carrot.ModelError, match="changed since.*overwrite=True"):
            model.save(tmp_path / "m")
    assert {record.id for record in Carrot.load(tmp_path / "m").records_} == set(ids[2:])
    two.save(tmp_path / "elsewhere")
    two.save(tmp_path / "m", overwrite=True)
    assert {record.id for record in Carrot.load(tmp_path / "m").records_} == set(ids) - {ids[2]}


@dataclass
class Shadow:
    """What a model should hold: label and own weight by id."""

    labels: dict[str, str]
    weights: dict[str, float] = field(default_factory=dict)


@given(st.data())
@settings(max_examples=12)
def test_any_sequence_of_edits_is_a_refit_of_what_is_left(
    fitted: Carrot, birds: ToyBirds, images: list[Image.Image], data: st.DataObject
) -> None:
    encoder, state = fitted.encoder, fitted.fitted
    shadow = Shadow({record.id: birds.classes[record.label] for record in state.records})
    spare = list(range(SPECIES * N, len(birds)))
    for _ in range(data.draw(st.integers(1, 4))):
        verb = data.draw(st.sampled_from(["forget", "relabel", "add", "class"]))
        names, classes = sorted(shadow.labels), sorted(set(shadow.labels.values()))
        wanted = dict(shadow.labels)
        if verb == "forget":
            gone = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
            edits = Edits(forget=gone)
            wanted = {name: label for name, label in wanted.items() if name not in gone}
        elif verb == "class":
            label = data.draw(st.sampled_from(classes))
            edits = Edits(classes=[label])
            wanted = {name: other for name, other in wanted.items() if other != label}
        elif verb == "relabel":
            some = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
            moves = {name: data.draw(st.sampled_from([*classes, "new"])) for name in some}
            edits = Edits(relabel=moves, new_classes=True)
            wanted |= moves
        else:
            if not spare:
                continue
            place = spare.pop()
            label = data.draw(st.sampled_from([*classes, "new"]))
            known = tuple(dict.fromkeys([*state.classes, label]))
            edits = Edits(add=PictureList(images[place], [label], known, ids=[f"added {place}"]), new_classes=True)
            wanted[f"added {place}"] = label
        try:
            state, _ = change(Classifier(encoder, state), edits, verify=False)
        except ValueError:
            left = set(wanted.values())
            unchanged = wanted == shadow.labels or any(edits.relabel.get(n) == shadow.labels[n] for n in edits.relabel)
            kept = set(state.classes) - set(edits.classes)
            assert unchanged or len(left) < 2 or kept - left, (
                "only what leaves a class empty, or says nothing new, is refused"
            )
            continue
        shadow.labels = wanted
    assert {r.id: state.classes[r.label] for r in state.records} == shadow.labels
    assert set(state.classes) == set(shadow.labels.values())
    head = state.head
    expected = RidgeHead(head.lam, True).fit(head.G, torch.tensor([r.label for r in state.records]))
    assert float((head.W_star - expected.W_star).abs().max()) <= 1e-11 * float(expected.W_star.abs().max())
    G = torch.cat([encoded for encoded in _embedded_again(fitted, birds, images, [r.id for r in state.records])])
    torch.testing.assert_close(head.G, G, rtol=0, atol=1e-5)  # a picture alone and in a batch: float16 steps


def _embedded_again(fitted: Carrot, birds: ToyBirds, images: list[Image.Image], ids: list[str]) -> list[torch.Tensor]:
    place = {record.id: i for i, record in enumerate(birds.records)}
    rows = {record.id: row for row, record in enumerate(fitted.records_)}
    found = []
    for name in ids:
        if name in rows:
            found.append(fitted.head_.G[rows[name]][None])
        else:
            i = place.get(name, int(name.split()[-1]) if name.startswith("added") else -1)
            found.append(fitted.trace(images[i]).g[None])
    return found


def test_a_held_out_picture_is_told_to_be_one(tmp_path: Path) -> None:
    """The audit lists its label as doubtful; to relabel it led to the name of another picture."""
    birds = ToyBirds(n_train_per_class=10, n_test_per_class=0, n_species=2)
    for i, record in enumerate(birds.records):
        folder = tmp_path / "data" / f"species {record.label}"
        folder.mkdir(parents=True, exist_ok=True)
        birds.image(i).save(folder / f"{i:02d}.png")
    model = Carrot("toy", regions="tiles:2").fit(str(tmp_path / "data"))
    fitted_on = {record.id for record in model.records_}
    files = sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.png"))
    held = next(name for name in files if name not in fitted_on)
    rows = [{"id": held, "action": "relabel", "label": "species 1"}]
    for ask in (
        lambda: model.relabel({held: "species 1"}),
        lambda: model.forget(held),
        lambda: model.what_if(birds.image(0), without=[f"{tmp_path}/data/{held}"]),
        lambda: model.apply(rows),
    ):
        with pytest.raises((ValueError, carrot.DataError), match="is a held-out picture.*move the file.*measure again"):
            ask()
    with pytest.raises(ValueError, match="Did you mean"):
        model.relabel({files[0] + "x": "species 1"})


def others_choose(model: Carrot, gone: str) -> RidgeHead:
    """Fit what ``again`` promises: without a picture, lam by leave-one-out among the penalties of before."""
    head, stay = model.head_, [i for i, record in enumerate(model.records_) if record.id != gone]
    assert head.loo_path is not None
    lams = head.loo_path.lams.tolist()
    return RidgeHead("loo", True, lams=lams).fit(head.G[stay], head.Y[stay], head.sample_weight[stay])


@pytest.mark.parametrize("lift", ["identity", "quadratic"])
def test_lam_is_chosen_again_where_it_is_asked(birds: ToyBirds, tmp_path: Path, lift: str) -> None:
    model = Carrot("toy", lift=lift).fit(birds)
    changed = 0
    for gone in [record.id for record in model.records_][:: 1 if lift == "identity" else 7]:
        expected, other = others_choose(model, gone), copy(model, tmp_path, gone.replace("/", "-"))
        certificate = other.forget(gone, again=True)
        assert other.head_.lam == expected.lam == certificate.lam
        assert certificate.lam_before == model.head_.lam
        assert "lam" in certificate.refitted
        assert "lam" not in certificate.held
        assert "settings are held; whether others would have been chosen is not known" in str(certificate)
        assert certificate.largest_difference is not None
        assert certificate.largest_difference <= 1e-10 * certificate.largest_weight
        torch.testing.assert_close(other.head_.W_star, expected.W_star, rtol=0, atol=1e-10 * certificate.largest_weight)
        assert other.head_.loo_path is not None
        changed += expected.lam != model.head_.lam
        told = "as before" if expected.lam == model.head_.lam else f"before {model.head_.lam:.4g}"
        assert f"lam, chosen again without what was deleted: {expected.lam:.4g}, {told}" in str(certificate)
        assert copy(other, tmp_path, "twice").forget(other.records_[3].id, again=True).lam > 0  # penalties are kept
    assert changed or lift == "quadratic"
    held = copy(model, tmp_path, "held").forget(model.records_[0].id)
    assert held.lam == held.lam_before
    assert "lam, chosen" not in str(held)
    assert "settings" not in str(held)


@pytest.mark.usefixtures("as_user")
def test_who_gave_lam_has_nothing_to_choose(birds: ToyBirds, tmp_path: Path) -> None:
    model = Carrot("toy", lift="identity", lam=0.5).fit(birds)
    before = model.head_
    with pytest.raises(ValueError, match=r"lam = 0\.5: there is nothing to choose"):
        model.forget(model.records_[0].id, again=True)
    assert model.head_ is before
    other = Carrot("toy", lift="identity").fit(birds)
    assert len(other.fitted.penalties) == 21
    old = copy(other, tmp_path)
    old._now = replace(old.classifier, fitted=replace(old.fitted, penalties=()))
    with pytest.raises(ValueError, match="saved by an earlier version"):
        old.forget(old.records_[0].id, again=True)
    assert old.forget(old.records_[0].id).lam == other.head_.lam


def test_what_would_have_been_selected_is_told_once(birds: ToyBirds) -> None:
    grid = {"regions": ["patches"], "lift": ["identity"], "tau": [0.0, 0.5], "t": [0.0]}
    model = Carrot("toy").select(birds, grid=grid, again=True, show=False)
    selected, names = model.selected_again_, [record.id for record in model.records_]
    assert selected is not None
    others = [name for name, setting in zip(names, selected.settings, strict=True) if setting != model.setting_]
    one = names[4]
    certificate = model.forget(one)
    assert certificate.other_settings == tuple({one} & set(others))
    told = f"others would have been chosen without {one}" if one in others else "chosen without it, too"
    assert told in str(certificate)
    assert model.selected_again_ is None  # it knew the picture
    assert model.forget(names[5]).other_settings is None


def test_lam_is_chosen_again_by_command(birds: ToyBirds, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Carrot("toy", lift="identity").fit(birds)
    model.save(tmp_path / "m")
    gone = model.records_[2].id
    assert main(["forget", str(tmp_path / "m"), gone, "--again", "--verbose"]) == 0
    said = capsys.readouterr().out
    assert f"lam, chosen again without what was deleted: {others_choose(model, gone).lam:.4g}" in said
    assert "lam was chosen again, by leave-one-out" in said
    assert Carrot.load(tmp_path / "m").head_.lam == others_choose(model, gone).lam
