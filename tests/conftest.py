"""Shared fixtures: fixed seeds, and real pictures and weights where a machine has them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# no property fails because a machine was busy for a minute; and where a property uses a folder, it writes it anew
settings.register_profile(
    "carrot", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("carrot")


@dataclass(frozen=True)
class RealFiles:
    """Where the real data sets and weights lie (``CARROT_REAL``, or ``shared`` beside the checkout)."""

    data: Path
    weights: Path


@pytest.fixture(scope="session")
def real() -> RealFiles:
    root = Path(os.environ.get("CARROT_REAL", ROOT.parent / "shared"))
    if not (root / "data").is_dir() or not (root / "weights").is_dir():
        pytest.skip(f"no real data at {root}: set CARROT_REAL to a folder with data/ and weights/")
    return RealFiles(root / "data", root / "weights")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def _surveyed() -> Any:
    # not at the top: imported with this file, the package would escape the checks of shapes
    from carrot._vit.blueprint import Blueprint

    return Blueprint, staticmethod(cache(Blueprint.of))


@pytest.fixture
def surveyed_once(_surveyed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what was found out about an architecture: tests build one backbone again and again to ask something else."""
    monkeypatch.setattr(_surveyed[0], "of", _surveyed[1])


@pytest.fixture
def as_user() -> Iterator[None]:
    """Run without the shape checks that only tests have: what a user's mistake meets is our own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
