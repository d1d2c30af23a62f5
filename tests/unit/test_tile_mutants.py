# ruff: noqa: E501
# In the table of mutants each text stands beside what the mutant has in its place: one line, however wide.
"""Damaged copies of what makes tiles: the checks of ``tests.tiles`` must reject each, and pass what is not damaged."""

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any

import pytest

from tests import tiles

pytestmark = pytest.mark.usefixtures("as_user", "surveyed_once")

# name: (module, text in it, what the mutant has there, the check that rejects it)
MUTANTS: dict[str, tuple[str, str, str, Any]] = {
    "resized before it is cut": (
        "tiling",
        "return [image.crop((box[0], box[1], box[2], box[3])) for box in self.boxes(image.size).tolist()]",
        "return [image.resize((96, 96)).resize(image.size).crop((b[0], b[1], b[2], b[3]))"
        " for b in self.boxes(image.size).tolist()]",
        tiles.check_locality,
    ),
    "a tile with a margin": (
        "tiling",
        "image.crop((box[0], box[1], box[2], box[3]))",
        "image.crop((box[0] - 1, box[1], box[2], box[3]))",
        tiles.check_locality,
    ),
    "boxes of the resized picture": (
        "embedding.view",
        "return self.tiling.boxes(image_size).double()",
        "return self.tiling.boxes((224, 224)).double()",
        tiles.check_boxes,
    ),
    "the overlap of another side": ("tiling", "step = 1.0 - grid.overlap  #", "step = 1.0 - 0.5 * grid.overlap  #", tiles.check_boxes),
    "columns first": (
        "tiling",
        "for y0, y1 in spans for x0, x1 in spans]",
        "for x0, x1 in spans for y0, y1 in spans]",
        tiles.check_boxes,
    ),
    "the whole picture leaks in": (
        "embedding.view",
        "return Tokens(features[:, :-1].contiguous(), None",
        "return Tokens(features[:, :-1] + 1e-3 * features[:, -1:], None",
        tiles.check_locality,
    ),
    "each tile less their mean": (
        "embedding.view",
        "return Tokens(features, None, tiling=self.tiling)",
        "return Tokens(features - features.mean(dim=1, keepdim=True), None, tiling=self.tiling)",
        tiles.check_locality,
    ),
    "norm to the power -p": ("readout", "norms.log() - 0.5", "-norms.log() + 0.5", tiles.check_shown),
    "a norm that is not per feature": ("readout", "- 0.5 * math.log(H.shape[-1])", "", tiles.check_shown),
    "a sum that is renormalised": ("readout", "if self.is_additive:\n            return r", "if False:\n            return r", tiles.check_shown),
    "a sum told from the mean picture": ("explanation.parts", "None if trace.is_additive else", "", tiles.check_additive),
    "a told share that grows": (
        "readout",
        "return self.restricted if self.is_additive or self.num_global else None",
        "return self.restricted if self.is_additive else None",
        tiles.check_shown,
    ),
    "a bandwidth that asks the others": (
        "embedding.pooling",
        '"direction" if s.is_tiled else "median"',
        '"median"',
        tiles.check_shown,
    ),
    "lengths in the graph": ("graph", 'directions_of(H) if self.feature_scale == "direction" else H', "H", tiles.check_shown),
    "no power": ("embedding.pooling", "norms = s.power *", "norms = 0.0 *", tiles.check_shown),
    "a map that is not spread": ("tiling", "values.double() / ", "values.double() * 1e-3 / ", tiles.check_map),
}  # fmt: skip


def damage(monkeypatch: pytest.MonkeyPatch, name: str, old: str = "", new: str = "") -> None:
    """Put a damaged copy of a module's functions and classes where the package has its own."""
    original = importlib.import_module(f"carrot.{name}")
    text = inspect.getsource(original)
    assert not old or text.count(old) == 1, (
        f"the mutant's text is {text.count(old)} times in {name}: keep the list alive"
    )
    copy = ModuleType(original.__name__)
    exec(compile(text.replace(old, new) if old else text, f"<{name}>", "exec"), copy.__dict__)
    mine = {
        id(value): copy.__dict__[key]
        for key, value in vars(original).items()
        if getattr(value, "__module__", None) == original.__name__ and key in copy.__dict__
    }
    for module in [module for place, module in sys.modules.items() if place.startswith("carrot.")]:
        for key, value in list(vars(module).items()):
            if id(value) in mine:
                monkeypatch.setattr(module, key, mine[id(value)])


@pytest.mark.parametrize("module", sorted({module for module, *_ in MUTANTS.values()}))
def test_an_undamaged_copy_passes(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(monkeypatch, module)
    for check in {check for place, _, _, check in MUTANTS.values() if place == module}:
        check()


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_rejected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, old, new, check = MUTANTS[name]
    damage(monkeypatch, module, old, new)
    with pytest.raises(AssertionError):
        check()
