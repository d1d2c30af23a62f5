"""What an answer costs, in calls: nothing is checked, parsed or staged twice, no class scored that nobody asked for."""

from collections import Counter
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carrot import Carrot, DiffusionOperator, RegionSet
from carrot.cli.options import GridOptions, SettingOptions
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import AXES, Setting
from carrot.graph import RegionGraphBuilder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Carrot:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(12)]
    made = Carrot("toy", lam=1.0, t=1.0, lift="identity")
    return made.fit(pictures, [str(i % 3) for i in range(12)], tokens=tmp_path_factory.mktemp("tokens"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    found: Counter[str] = Counter()

    def count(owner: type, method: str, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, method)

        def noted(*args: Any, **kwargs: Any) -> Any:
            found[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, method, noted)

    count(RegionSet, "__post_init__", "regions checked")
    count(Pooling, "stage", "stages")
    count(Pooling, "__init__", "settings bound")
    count(RegionGraphBuilder, "build", "graphs")
    count(DiffusionOperator, "__init__", "operators")
    return found


def picture(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def test_a_batch_is_staged_once(model: Carrot, calls: Counter[str]) -> None:
    model.predict([picture(i) for i in range(5)])
    assert calls["stages"] == calls["regions checked"] == calls["graphs"] == 1
    assert calls["settings bound"] <= 1
    model.predict([picture(i) for i in range(40)])  # two passes of the backbone
    assert calls["stages"] == calls["regions checked"] == calls["graphs"] == 3


def test_an_explanation_stages_each_picture_once(model: Carrot, calls: Counter[str]) -> None:
    model.explain(picture(), k=4)
    assert calls["stages"] == calls["regions checked"] == calls["graphs"] == 5, (
        "the picture, and four training pictures"
    )
    assert calls["settings bound"] <= 1
    assert calls["operators"] <= 1, "pull_back makes none of its own, but for a path of times"


def test_defaults_of_a_setting_stand_in_one_place() -> None:
    parameters = signature(Carrot).parameters
    options, grid = SettingOptions(), GridOptions()
    for name, axis in AXES.items():
        assert parameters[name].default == axis.asked == getattr(options, name)
        assert getattr(Setting(), name) == axis.default
        assert getattr(grid, name) is None
        assert axis.default in axis.grid or axis.is_graph
        if axis.rule is not None:
            assert all(axis.holds(value) for value in axis.grid)


def test_what_is_asked_for_is_what_is_bound(tmp_path: Path) -> None:
    assert Setting.asked({}, has_attention=True) == Setting("quadratic", 0.5)
    assert Setting.asked({}, has_attention=False) == Setting("quadratic", 0.0)
    assert Setting.asked({"tau": 0.0, "t": 2.0, "lam": 1.0}, has_attention=True) == Setting("quadratic", 0.0, t=2.0)
    pooling = Pooling(Setting("relu:8", 0.5, 0.3, 0.4, 2.0, 0.1, 2))
    assert (pooling.builder.sigma_spatial, pooling.builder.sigma_feature, pooling.operator.t) == (0.3, 0.4, 2.0)
    assert (pooling.readout.tau, pooling.readout.global_share, str(pooling.lift)) == (0.5, 0.1, "relu:8")
