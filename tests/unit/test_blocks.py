"""Products by blocks are the products; the rows are never widened as a whole."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from carrot._ridge import blocks

F32, F64 = torch.float32, torch.float64
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("entries", [1, 7, 24, 10**6])
@pytest.mark.parametrize("length", [1, 5, 12])
def test_blocks_cover_every_line_once(entries: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ENTRIES", entries)
    lines = [i for b in blocks.blocks(length, 4) for i in range(b.start, b.stop)]
    assert lines == list(range(length))
    assert all((b.stop - b.start) * 4 <= max(entries, 4) for b in blocks.blocks(length, 4))


def test_blocks_that_meet_few_columns_are_small() -> None:
    few, many, D = blocks.CACHED // 1000, blocks.LINES, 1000
    largest = {k: max(b.stop - b.start for b in blocks.blocks(10**5, D, k)) for k in (None, 1, blocks.FEW, 200)}
    assert largest == {None: many, 1: few, blocks.FEW: few, 200: many}
    assert max(b.stop - b.start for b in blocks.blocks(10**5, 10**5)) == blocks.ENTRIES // 10**5
    assert max(b.stop - b.start for b in blocks.blocks(10**6, 8)) == blocks.CACHED // 8


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(("entries", "strip"), [(1, 1), (20, 2), (33, 4), (10**6, 512)])
def test_products_are_those_of_whole_matrices(
    entries: int, strip: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "ENTRIES", entries)
    monkeypatch.setattr(blocks, "STRIP", strip)
    rng = np.random.default_rng(0)
    G, w = torch.tensor(rng.normal(size=(11, 7)) + 3.0, dtype=dtype), torch.tensor(rng.uniform(0.5, 2.0, size=11))
    X, Z = torch.tensor(rng.normal(size=(7, 2))), torch.tensor(rng.normal(size=(11, 2)))
    whole, mean = G.double().numpy(), np.average(G.double().numpy(), axis=0, weights=w.numpy())
    A = whole - mean
    m = torch.tensor(mean)
    for ours, expected in (
        (blocks.weighted_mean(G, w), mean),
        (blocks.times(G, m, X), A @ X.numpy()),
        (blocks.times(G, None, X), whole @ X.numpy()),
        (blocks.transposed_times(G, m, Z), A.T @ Z.numpy()),
        (blocks.inner_products(G, m), A @ A.T),
        (torch.tensor(blocks.square_sum(G, w), dtype=F64), (w.numpy() @ whole**2).sum()),
    ):
        assert ours.dtype == F64
        np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=10 * 2.2e-16 * 11 * 16)  # n |g|^2 eps
    S = blocks.inner_products(G, m)
    assert torch.equal(S, S.mT)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_wide_float32_rows_are_never_widened_whole() -> None:
    """Peak of a process of its own, over what it held before the fit: one copy of G, n x n matrices, and blocks."""
    script = """
import resource, torch
from carrot import RidgeHead
from carrot._ridge import blocks
blocks.ENTRIES = 1 << 18
n, D = 400, 40000
def fit(D):
    head = RidgeHead("loo", True, lams=[1.0, 10.0]).fit(G[:, :D], labels)
    head.loo_predict(), head.predict(G[:, :D]), head.remove([0, 1]).add(G[:2, :D], labels[:2])
G, labels = torch.randn(n, D), torch.arange(n) % 4
fit(600)  # the libraries' own buffers
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fit(D)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (4 * n * D))
"""
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    copies = float(out.stdout)
    # one copy is kept; remove holds the old rows and the new; a float64 copy would be two more
    assert copies < 2.9, f"peak of {copies:.1f} float32 copies of G"
