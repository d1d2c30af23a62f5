"""What if: every question of a fitted model answered as a real change and a real removal would answer it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrot import Carrot, cli
from carrot.attribution import region_interactions, region_shapley, remove_regions
from carrot.classifier.what_if import WhatIf
from carrot.data.toy import ToyBirds
from carrot.readout import BoundReadout

BIRDS = ToyBirds(n_train_per_class=6, n_test_per_class=1, n_species=4)
TEST = BIRDS.image(next(i for i, record in enumerate(BIRDS.records) if record.split == "test"))
WEIGHTS = (None, "balanced")


@pytest.fixture(scope="module")
def models() -> dict[str | None, Carrot]:
    """Models whose every change is a real one; with class weights, weights are balanced again."""
    return {
        weight: Carrot("toy", t=1.0, lift="identity", lam=0.1, class_weight=weight).fit(BIRDS) for weight in WEIGHTS
    }


def changed(model: Carrot, gone: list[str], moved: dict[str, str]) -> Carrot:
    """Return a copy of the model, really changed."""
    other = Carrot(**model.get_params())
    other._now = model._now
    if gone:
        other.forget(gone, verify=False)
    if moved:
        other.relabel(moved, verify=False)
    return other


@pytest.mark.parametrize("weight", WEIGHTS)
@given(data=st.data())
@settings(max_examples=12)
def test_training_pictures_are_as_if_it_had_been_so(
    models: dict[str | None, Carrot], weight: str | None, data: Any
) -> None:
    model = models[weight]
    ids = [record.id for record in model.records_]
    label_of = {record.id: model.classes_[record.label] for record in model.records_}
    some = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=6, unique=True))
    cut = data.draw(st.integers(0, len(some)))
    gone = some[:cut]
    moved = {
        name: str(model.classes_[(list(model.classes_).index(label_of[name]) + 1 + k) % 4])
        for k, name in enumerate(some[cut:])
        if k < 3
    }
    left = [moved.get(name, label_of[name]) for name in ids if name not in gone]
    if len(set(left)) < 4:
        with pytest.raises(ValueError, match="would be left without a training picture"):
            model.what_if(TEST, without=gone, relabel=moved)
        return
    answer = model.what_if(TEST, without=gone, relabel=moved, verify=True)
    expected = changed(model, gone, moved).decision_function(TEST)[0]
    np.testing.assert_allclose(answer.logits.numpy(), expected, rtol=0, atol=1e-9)
    assert answer.difference is not None
    assert answer.difference < 1e-9
    np.testing.assert_array_equal(answer.before.numpy(), model.decision_function(TEST)[0])


def test_nothing_is_changed(models: dict[str | None, Carrot]) -> None:
    model = models[None]
    before, now = model.decision_function(TEST), model.classifier
    model.what_if(
        TEST, without=model.records_[0].id, relabel={model.records_[9].id: str(model.classes_[0])}, regions=[1]
    )
    assert model.classifier is now
    np.testing.assert_array_equal(model.decision_function(TEST), before)


@pytest.mark.parametrize("regions", [[0], [3, 40, 41, 99], range(50), []])
def test_dropped_regions_are_removed_regions(models: dict[str | None, Carrot], regions: Any) -> None:
    model = models[None]
    trace = model.trace(TEST)
    keep = torch.ones(100, 1, dtype=torch.bool)
    keep[list(regions)] = False
    expected = remove_regions(
        trace.H, trace.graph, trace.operator, BoundReadout(trace.r), model.head_, keep, trace.lift
    )[0]
    for given_as in (regions, torch.tensor(list(regions), dtype=torch.long), ~keep[:, 0]):
        answer = model.what_if(TEST, regions=given_as)
        torch.testing.assert_close(answer.logits, expected, rtol=0, atol=1e-11)
        assert answer.dropped == tuple(regions)


def test_without_any_region_the_bias_is_left(models: dict[str | None, Carrot]) -> None:
    model = models[None]
    torch.testing.assert_close(model.what_if(TEST, regions=range(100)).logits, model.head_.bias, rtol=0, atol=1e-12)


def test_regions_and_training_pictures_at_once(models: dict[str | None, Carrot]) -> None:
    model = models[None]
    gone = [model.records_[0].id, model.records_[7].id]
    answer = model.what_if(TEST, without=gone, regions=range(30))
    expected = changed(model, gone, {}).what_if(TEST, regions=range(30)).logits
    torch.testing.assert_close(answer.logits, expected, rtol=0, atol=1e-10)
    apart = model.what_if(TEST, without=gone).logits + model.what_if(TEST, regions=range(30)).logits - answer.before
    assert float((apart - answer.logits).abs().max()) > 1e-4, "the two are not merely added"


def test_another_picture_in_the_place_of_one() -> None:
    model = Carrot("toy", t=1.0, lift="identity", lam=0.1, dtype="float32").fit(BIRDS)
    train = [i for i, record in enumerate(BIRDS.records) if record.split == "train"]
    place, other = 2, BIRDS.image(next(i for i, r in enumerate(BIRDS.records) if r.label == 3))
    answer = model.what_if(TEST, replace={model.records_[place].id: other}, verify=True)
    pictures = [BIRDS.image(i) for i in train]
    pictures[place] = other
    labels = [BIRDS.classes[BIRDS.records[i].label] for i in train]
    again = Carrot(**model.get_params()).fit(pictures, labels)  # from the pictures on
    order = [list(again.classes_).index(name) for name in model.classes_]
    # the backbone's own rounding, of a picture alone and in a batch: 10 eps of float32, through g and W*
    size = float(model.head_.G.abs().max()) * float(model.head_.W_star.abs().sum(dim=0).max())
    tolerance = 10 * torch.finfo(torch.float32).eps * size
    np.testing.assert_allclose(answer.logits.numpy(), again.decision_function(TEST)[0][order], rtol=0, atol=tolerance)
    assert answer.difference is not None
    assert answer.difference < 1e-9
    assert float((answer.logits - answer.before).abs().max()) > 1e3 * tolerance


def test_it_says_it_in_words(models: dict[str | None, Carrot]) -> None:
    model = models[None]
    said = str(model.predict(TEST)[0])
    own = [record.id for record in model.records_ if model.classes_[record.label] == said]
    answer = model.what_if(TEST, without=own[:-1])
    text = str(answer)
    assert text.startswith("picture 0: without 5 training pictures (")
    assert f"the model would {'still say' if answer.prediction == said else 'say'} " in text
    assert f"{float(answer.logits[int(answer.logits.argmax())]):.4f}" in text
    found = answer.to_dict()
    assert found["predicted"] == {"before": said, "after": answer.prediction}
    for row in found["classes"]:
        assert row["after"] - row["before"] == row["change"]
    assert sum(row["probability"] for row in found["classes"]) == pytest.approx(1.0)
    assert isinstance(answer, WhatIf)
    assert f"temperature of now, {model.temperature_:.3g}" in text
    assert found["temperature"] == model.temperature_
    assert "temperature" not in str(model.what_if(TEST, regions=[3])), "the model is the same"
    assert repr(answer).startswith("<WhatIf picture 0: without 5 training pictures (")
    assert "labelled" in str(model.what_if(TEST, relabel={own[0]: str(next(c for c in model.classes_ if c != said))}))
    assert "its patch 3 (row 0, column 3) dropped" in str(model.what_if(TEST, regions=[3]))


@pytest.mark.usefixtures("as_user")
def test_mistakes(models: dict[str | None, Carrot]) -> None:
    model = models[None]
    name, label = model.records_[0].id, str(model.classes_[model.records_[0].label])
    for asked, words in (
        ({}, "got nothing"),
        ({"without": "nobody"}, "no training picture"),
        ({"without": label}, "It is a class: give the ids"),
        ({"relabel": {name: "dodo"}}, "no class of this model"),
        ({"relabel": {name: label}}, "labelled .* already"),
        ({"without": [name], "relabel": {name: str(model.classes_[3])}}, "ask for one"),
        ({"replace": {name: TEST}, "without": [name]}, "`replace` takes one"),
        ({"replace": {"nobody": TEST}}, "no training picture"),
        ({"regions": [100]}, "0 .. 99"),
        ({"regions": [3], "verify": True}, "regions alone change no fit"),
        ({"regions": torch.ones(7, dtype=torch.bool)}, r"\(100,\)"),
        ({"without": [r.id for r in model.records_ if r.label == 0]}, "picture. Leave it at least one"),
    ):
        with pytest.raises(ValueError, match=words):
            model.what_if(TEST, **asked)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(("argument", "wrong", "words"), [
    ("without", None, "`without` must be ids"), ("without", 3, "`without` must be ids"),
    ("without", [0], "`without` must be ids"), ("without", [["a"]], "`without` must be ids"),
    ("without", Path("a"), "`without` must be ids"), ("without", b"a", "`without` must be ids"),
    ("relabel", [("a", "b")], "`relabel` must be by id"), ("relabel", "a", "`relabel` must be by id"),
    ("relabel", {0: "b"}, "`relabel` must be ids"), ("replace", [("a", TEST)], "`replace` must be by id"),
    ("replace", {0: TEST}, "`replace` must be ids"),
    ("regions", [0.5], "whole number"), ("regions", "3", "whole number"), ("regions", [True] * 100, "a mask"),
    ("regions", np.array([0.5]), "whole number"), ("regions", torch.ones(100, dtype=torch.uint8), "uint8"),
    ("regions", np.ones((2, 50), dtype=int), "whole number"), ("regions", True, "whole number"),
])  # fmt: skip
def test_what_is_of_another_kind(models: dict[str | None, Carrot], argument: str, wrong: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        models[None].what_if(TEST, **{argument: wrong})
    if argument == "regions":
        with pytest.raises(TypeError, match=words):
            models[None].explain(TEST, k=1).without(wrong)


def test_what_is_asked_twice_is_told_once(models: dict[str | None, Carrot]) -> None:
    model = models[None]
    once, name = model.what_if(TEST, without=model.records_[0].id), model.records_[0].id
    for twice in ([name, name], np.array([name, name]), (x for x in (name, name)), {name: 0}):
        answer = model.what_if(TEST, without=twice)
        assert answer.without == (name,)
        assert torch.equal(answer.logits, once.logits)
    assert model.what_if(TEST, regions=[4, 4]).dropped == (4,)


def test_a_mask_is_of_any_library(models: dict[str | None, Carrot]) -> None:
    model = models[None]
    mask = np.zeros(100, dtype=bool)
    mask[[3, 7]] = True
    e, expected = model.explain(TEST, k=1), model.what_if(TEST, regions=[3, 7])
    for given_as in (mask, torch.tensor(mask), np.array([3, 7]), iter([7, 3])):
        given_as = list(given_as) if not isinstance(given_as, np.ndarray | torch.Tensor) else given_as
        assert torch.equal(model.what_if(TEST, regions=given_as).logits, expected.logits)
        assert e.without(given_as) == e.without([3, 7])
    assert model.what_if(TEST, regions=3).dropped == (3,)


def test_nothing_dropped_is_said_so(models: dict[str | None, Carrot]) -> None:
    assert ": with nothing changed, the model would still say " in str(models[None].what_if(TEST, regions=[]))


# ---- asking an explanation further


def test_an_explanation_answers_further_questions(models: dict[str | None, Carrot]) -> None:
    model = models[None]
    e, trace = model.explain(TEST, k=1), model.trace(TEST)
    stages = (trace.H, trace.graph, trace.operator, BoundReadout(trace.r), model.head_)
    c = e.parts.target
    with pytest.raises(ValueError, match="which is the predicted class"):
        model.explain(TEST, against=e.target)
    values, errors = e.shapley(8, seed=3)
    expected = region_shapley(*stages, n_samples=8, seed=3, lift=trace.lift)
    torch.testing.assert_close(values, expected[0][:, c], rtol=0, atol=1e-11)
    torch.testing.assert_close(errors, expected[1][:, c], rtol=0, atol=1e-11)
    assert float(values.sum()) == pytest.approx(e.parts.logit - float(model.head_.bias[c]), abs=1e-11)
    assert repr(e) == f"<Explanation of picture 0: {e.target}, {e.parts.logit:+.6f}>"
    assert repr(trace).startswith("<Trace of H (100, ")
    assert e.region_name(23) == "patch 23 (row 2, column 3)"
    most = int(e.drops.abs().argmax())
    assert f"patch that matters most: patch {most} (row {most // 10}, column {most % 10});" in e.proof()
    assert e.without([5]) == pytest.approx(e.parts.logit - float(e.drops[5]), abs=1e-12)
    assert torch.equal(e.removals, e.drops)
    assert e.without(range(100)) == pytest.approx(float(model.head_.bias[c]), abs=1e-12)
    both = e.interactions()
    torch.testing.assert_close(both, region_interactions(*stages, target=c, lift=trace.lift), rtol=0, atol=1e-11)
    assert float(both[3, 4]) == pytest.approx(
        e.parts.logit - e.without([3]) - e.without([4]) + e.without([3, 4]), abs=1e-11
    )
    assert len(e.shapley().values) == 100  # 40 orders, where nobody says


def test_few_regions_have_exact_shapley_values() -> None:
    pictures = [BIRDS.image(i) for i in range(8)]
    model = Carrot("toy", t=1.0, lift="identity", lam=0.1, coarsen=5).fit(pictures, list("aabbaabb"))
    e = model.explain(pictures[0], target="a", against="b", k=1)
    values, errors = e.shapley()
    assert values.shape == (4,)
    assert not errors.any()
    lead = e.parts.logit - float(model.head_.bias[0] - model.head_.bias[1])
    assert float(values.sum()) == pytest.approx(lead, abs=1e-12)


def test_numbers_alone_can_not_be_asked_further(models: dict[str | None, Carrot]) -> None:
    from dataclasses import replace

    e = replace(models[None].explain(TEST, k=1), coalitions=None)
    for ask in (e.shapley, e.interactions, lambda: e.without([0])):
        with pytest.raises(ValueError, match=r"Carrot\.explain"):
            ask()


def test_a_trace_knows_its_energies(models: dict[str | None, Carrot]) -> None:
    trace = models[None].trace(TEST)
    assert float(trace.node_energy.sum()) == pytest.approx(float(trace.g @ trace.g), rel=1e-12)
    assert float(trace.dirichlet_energy.sum()) == pytest.approx(
        float((trace.H.mT @ trace.L @ trace.H).trace()), rel=1e-9
    )


# ---- the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("home")
    for i, record in enumerate(BIRDS.records):
        path = root / "data" / f"class={record.label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        BIRDS.image(i).save(path)
    assert cli.main(["fit", str(root / "data"), "--out", str(root / "model"), "--backbone", "toy"]) == 0
    return root


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    model, picture = Carrot.load(folder / "model"), folder / "data" / "class=0" / "0.png"
    ids = [record.id for record in model.records_]
    words = [
        "what-if",
        str(folder / "model"),
        str(picture),
        "--without",
        ids[1],
        ids[2],
        "--relabel",
        f"{ids[0]}=class=1",
    ]
    capsys.readouterr()
    assert cli.main([*words, "--region", "0,3", "17", "--verify", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = model.what_if(picture, without=ids[1:3], relabel={ids[0]: "class=1"}, regions=[3, 17])
    assert [row["after"] for row in found["classes"]] == pytest.approx(expected.logits.tolist(), abs=1e-12)
    assert found["largest_difference_from_a_fit"] < 1e-9
    assert cli.main(words) == 0
    assert "the model would" in capsys.readouterr().out
    for more, status, said in (
        (["--region", "1,1@2"], 1, "@K is of tiles"),
        (["--region", "x"], 2, "`--region` must be"),
        (["--region", "10,0"], 1, "`--region` must be in 10 rows"),
        (["--region", "100"], 1, "`--region` must be in 0 .. 99"),
        (["--relabel", "nothing"], 2, "ID=CLASS"),
        (["--relabel", "nobody=class=1"], 1, "'nobody' is no training picture"),
        (
            ["--relabel", f"{ids[0]}=class=1", f"{ids[0]}=class=2"],
            1,
            "`--relabel` must name each training picture once",
        ),
        (["--without", "nobody"], 1, "'nobody' is no training picture"),
        (["--without", "class=0"], 1, "It is a class: give the ids of its pictures"),
        ([], 2, "--without"),
    ):
        assert cli.main([*words[:3], *more]) == status
        told = capsys.readouterr().err
        assert told.startswith("carrot: ")
        assert said in told
        assert "`--class`" not in told


def test_explain_asks_further(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import json

    picture, out = folder / "data" / "class=0" / "0.png", ["--out", str(tmp_path / "x.html")]
    words = ["explain", str(folder / "model"), str(picture), "--shapley", "--interactions", "--hidden", *out]
    capsys.readouterr()
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    settings = (tmp_path / "x.html.yaml").read_text()
    assert "shapley: true" in settings
    assert "interactions: true" in settings
    assert "hidden: true" in settings
    assert "40 sampled orders" in told
    model = Carrot.load(folder / "model")
    e = model.explain(picture)
    bias = float(model.head_.bias[e.parts.target])
    assert f"they sum to {e.parts.logit - bias:+.6f}, the logit less the bias ({bias:+.6f}):" in told
    assert "stand in for each other" in told
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    e = Carrot.load(folder / "model").explain(picture)
    assert found["shapley"]["values"] == pytest.approx(e.shapley().values.tolist(), abs=1e-12)
    assert found["interactions"][3][4] == pytest.approx(float(e.interactions()[3, 4]), abs=1e-12)
    hidden = model.hidden_regions(picture)
    assert str(hidden) in told
    assert found["hidden"]["top"][0]["training_id"] == hidden.top[0].training_id
    bias = float(Carrot.load(folder / "model").head_.bias[e.parts.target])
    assert sum(found["shapley"]["values"]) == pytest.approx(found["logit"] - bias)


def test_the_command_names_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    model = Carrot("toy", regions="tiles:2,3", global_share=0.2, device="cpu").fit(BIRDS)
    model.save(tmp_path / "m")
    TEST.save(picture := tmp_path / "x.png")
    words = ["what-if", str(tmp_path / "m"), str(picture), "--region"]
    assert cli.main([*words, "1,0@2", "1,0@3", "2,1", "13", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dropped"] == [2, 7, 11, 13]
    expected = model.what_if(TEST, regions=[2, 7, 11, 13])
    assert [row["after"] for row in found["classes"]] == pytest.approx(expected.logits.tolist(), abs=1e-12)
    for wrong, said in (
        ("1,0", "may be tile 2 (row 1, column 0 of 2 x 2) or tile 7 (row 1, column 0 of 3 x 3)"),
        ("2,1@2", "no such tile; there are tile 0 (row 0, column 0 of 2 x 2) .. region 13 (the whole picture)"),
        ("14", "must be in 0 .. 13; got 14"),
    ):
        assert cli.main([*words, wrong]) == 1
        assert said in capsys.readouterr().err
    assert cli.main(["info", str(tmp_path / "m")]) == 0
    told = capsys.readouterr().out.splitlines()[0]
    assert told == "regions: 13 tiles, each seen alone (tiles:2,3); the whole picture has a share of 0.2"
    assert cli.main(["export", str(tmp_path / "m"), str(tmp_path / "t.csv")]) == 0
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + len(model.records_)
