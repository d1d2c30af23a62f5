"""The rows of the FunnyBirds benchmark on a few toy birds: what each map is, and that each can be scored."""

from pathlib import Path

import pytest
import torch

from benchmarks import funnybirds
from benchmarks.funnybirds import Asked, check, explainers
from carrot import Carrot
from carrot.data.toy import ToyBirds
from carrot.protocol.funnybirds import Interventions, measure
from carrot.tiling import pixel_map
from docs import funnybirds_table

pytestmark = pytest.mark.filterwarnings("ignore:lam = .* is the end of the path")
BIRDS = ToyBirds(n_train_per_class=3, n_test_per_class=1, n_species=4)
TEST = 12


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(Carrot("toy").fit(BIRDS, tokens=tmp_path_factory.mktemp("tokens")).classifier)


def test_maps_are_what_they_are_called(asked: Asked) -> None:
    image, target = BIRDS.image(TEST), 1
    parts, boxes = asked.parts(image, target), asked.boxes(image)
    assert boxes.shape == (100, 4)
    for name in ("token", "drop"):
        found = asked.own(name, image, target)
        assert found.shape == (160, 160)
        assert float(found[16:32, 48:64].sum()) == pytest.approx(float(getattr(parts, name)[13]), abs=1e-12)
    covered = image.copy()
    covered.paste(
        tuple(round(sum(c) / 160**2) for c in zip(*image.get_flattened_data(), strict=True)), (48, 16, 64, 32)
    )
    whole, without = asked.classifier.logits([image, covered])[:, target].tolist()
    assert float(asked.occlusion(image, target)[16:32, 48:64].sum()) == pytest.approx(whole - without, abs=1e-5)
    assert torch.equal(asked.random(image, target), asked.random(image, target))
    assert not torch.equal(asked.random(image, target), asked.random(image, 0))
    assert asked.centre(image, target).argmax() in (79 * 160 + 79, 79 * 160 + 80, 80 * 160 + 79, 80 * 160 + 80)


def test_own_answers_drop_the_regions_that_meet_a_mask(asked: Asked) -> None:
    image, target = BIRDS.image(TEST), 1
    masks = torch.zeros(3, 160, 160, dtype=torch.bool)
    masks[0, 20, 50] = masks[1, 20, 50] = masks[1, 20, 70] = True  # patches 13 and 14
    found, total = asked.removal(image, target, masks)
    parts = asked.parts(image, target)
    assert float(found[0]) == pytest.approx(float(parts.drop[13]), abs=1e-12)
    assert abs(float(found[1]) - float(parts.drop[13])) > 1e-9
    assert float(found[2]) == 0.0
    assert total == pytest.approx(float(parts.token.sum()), abs=1e-12)


def test_every_row_can_be_scored(asked: Asked) -> None:
    world = Interventions.of(BIRDS, asked.classifier.logits)
    check(asked, world, TEST)
    rows = explainers(asked, world)
    maps = ["token map", "drop map", "occlusion map", "centre map", "random map"]
    assert list(rows) == [*maps, "own answer (no map)", "measured (no map)"]
    for says in rows.values():
        assert measure(world, says, [TEST, TEST + 2]).accuracy.n == 2


def test_a_map_that_is_not_of_its_logit_is_refused(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Interventions.of(BIRDS, asked.classifier.logits)
    monkeypatch.setattr(funnybirds, "pixel_map", lambda values, boxes, hw: pixel_map(1.001 * values, boxes, hw))
    with pytest.raises(SystemExit, match="the token map sums to"):
        check(asked, world, TEST)


def test_the_page_is_its_result() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "funnybirds.md").read_text()
    assert funnybirds_table.table() in page
