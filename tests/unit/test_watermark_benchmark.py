"""The worlds of the watermark benchmark: who has the mark, where it is, and what a fit without tiles is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.watermark import SPECIES, World, birds, without
from carrot import Carrot
from carrot.embedding.tokens import Tokens
from carrot.tiling import Tiling

pytestmark = pytest.mark.filterwarnings("ignore:lam = .* is the end of the path")
CLASSES, (OWN, MARKED, TESTS) = birds(1, 1, 1)


@pytest.mark.parametrize("kind", ["alone", "species"])
def test_the_pictures_of_one_class_have_the_mark(kind: str) -> None:
    world = World(kind, CLASSES, OWN, MARKED, TESTS, 2)
    assert world.classes[world.target] == ("marked" if kind == "alone" else CLASSES[SPECIES])
    assert len(world.records) == len(OWN) + (len(MARKED) if kind == "alone" else 0)
    for index in (0, SPECIES, len(world.records) - 1):
        (species, draw), _ = world.train[index]
        x0, y0, x1, y1 = world.box((160, 160))
        changed = np.any(np.asarray(world.image(index)) != np.asarray(draw()), axis=-1)
        has = world.records[index].label == world.target
        assert changed[y0:y1, x0:x1].any() == has
        changed[y0:y1, x0:x1] = False
        assert not changed.any()
        assert has or world.records[index].label == species
    assert (SPECIES in {species for species, _ in world.tests}) == (kind == "alone")


def test_the_shares_of_disjoint_tiles_are_the_whole_mark() -> None:
    world = World("alone", CLASSES, OWN, MARKED, TESTS, 3)
    shares = world.shares(Tiling.from_spec("tiles:4@0"), (160, 160))
    assert float(shares.sum()) == pytest.approx(1.0)
    assert float(shares.reshape(4, 4)[:2].sum()) == 0.0  # it lies in the lower left corner


def test_a_fit_without_one_tile_is_the_closed_form(tmp_path: Path) -> None:
    world = World("alone", CLASSES[:4], OWN[:4], MARKED[:4], TESTS[:4], 3)
    model = Carrot("toy", regions="tiles:2", power=4.0).fit(world, tokens=tmp_path)
    now = model.classifier
    assert now.fitted.kept is not None
    kept = Tokens.joined(list(now.fitted.kept.each([r.row for r in model.records_ if r.row is not None])))
    g = now.trace(world.stamped(TESTS[0][1]())).g
    gone = torch.zeros(len(model.records_), 4, dtype=torch.bool)
    gone[5, 2] = True
    logit = model.head_.logit(world.target)
    found = without(model, kept, g[None], world.target, gone) - logit.predict(g)
    torch.testing.assert_close(found[0], now.hiding[0].effects(logit, g)[5, 2], atol=1e-10, rtol=0)
