"""Any sequence of changes of a head is a fit of the rows that are left, whatever was asked between them, and when."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrot import RidgeHead
from tests import reference as ref

CHANGES = ("remove", "add", "relabel", "soften", "reweight", "restore", "copy", "pickle")
ASKED = ("nothing", "predict", "loo", "blocks", "slack", "edited")


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(14, 3), (7, 12), (9, 8), (16, 1)]),
    intercept=st.booleans(),
    lam=st.sampled_from([1e-3, 1.0, 1e8]),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    kept=st.booleans(),
    steps=st.lists(st.tuples(st.sampled_from(CHANGES), st.sampled_from(ASKED)), min_size=1, max_size=5),
)
def test_any_sequence_of_changes_is_a_fit_of_what_is_left(
    seed: int,
    shape: tuple[int, int],
    intercept: bool,
    lam: float,
    dtype: torch.dtype,
    kept: bool,
    steps: list[tuple[str, str]],
) -> None:
    rng = np.random.default_rng(seed)
    n, C = shape[0], 3
    G = torch.tensor(rng.normal(size=shape)).to(dtype)
    G[n // 2] = G[0]  # a copy, of another label where n is odd
    X, Y, w = G.double().numpy(), np.eye(C)[np.arange(n) % C], rng.uniform(0.5, 2.0, size=n)
    head = RidgeHead(lam, intercept, copy=kept).fit(G, torch.arange(n) % C, torch.tensor(w))
    for change, asked in steps:
        rows = rng.choice(len(X), size=rng.integers(1, 4), replace=False)
        labels, soft = rng.integers(0, C, size=len(rows)), rng.normal(size=(len(rows), C))
        if change == "remove" and len(X) - len(rows) >= 4:
            head.remove(rows.tolist())
            X, Y, w = (np.delete(x, rows, axis=0) for x in (X, Y, w))
        elif change == "add":
            head.add(torch.tensor(soft[:, :1] * X[rows]).float(), torch.tensor(labels))
            X = np.concatenate([X, torch.tensor(soft[:, :1] * X[rows]).float().double().numpy()])
            Y, w = np.concatenate([Y, np.eye(C)[labels]]), np.append(w, np.ones(len(rows)))
        elif change in ("relabel", "soften"):
            head.relabel(rows, torch.tensor(labels if change == "relabel" else soft))
            Y[rows] = np.eye(C)[labels] if change == "relabel" else soft
        elif change == "reweight":
            w = rng.uniform(0.5, 2.0, size=len(w))
            head = head.reweighted(torch.tensor(w))
        elif change == "restore":
            head = RidgeHead.from_state(head.state(), lam, intercept)
        elif change == "copy":
            head = copy.deepcopy(head)
        elif change == "pickle":
            head = pickle.loads(pickle.dumps(head))  # noqa: S301  (our own)
        _check(head, X, Y, w, lam, intercept, asked)
    for asked in rng.permutation(ASKED):
        _check(head, X, Y, w, lam, intercept, asked)


def _check(head: RidgeHead, X: ref.Array, Y: ref.Array, w: ref.Array, lam: float, intercept: bool, asked: str) -> None:
    n, stay = len(X), list(range(1, len(X)))
    if asked == "nothing":
        return
    if asked == "predict":
        found, expected = head.predict(torch.tensor(X)), ref.predict(X, Y, lam, intercept, X, w)
    elif asked == "edited":
        found, expected = head.edited_loo().without(0).logits[stay], ref.loo(X[1:], Y[1:], lam, intercept, w[1:])
    else:
        expected = ref.loo(X, Y, lam, intercept, w)
        found = head.loo_predict() if asked == "loo" else torch.cat([said for _, said in head.loo_blocks()])
        if asked == "slack":
            found = head.Y - head.residual / head.slack.unsqueeze(-1)
    # without two of them the condition is at most that of nothing but lam; lstsq of stacked rows has its own rounding
    size = float((w @ (X**2).sum(axis=1) + lam) / lam)
    tolerance = 100 * 2.2e-16 * (min(size, 1e6) + lam**0.5) * n * max(1.0, np.abs(Y).max())
    assert np.abs(found.numpy() - expected).max() <= tolerance, (asked, tolerance)
    assert np.array_equal(head.Y.numpy(), Y)
    assert np.array_equal(head.sample_weight.numpy(), w)
    assert np.array_equal(head.G.double().numpy(), X)
    assert head.logit(0, 1).predict(torch.tensor(X[:2]))[:, 0].numpy() == pytest.approx(
        (head.predict(torch.tensor(X[:2]))[:, 0] - head.predict(torch.tensor(X[:2]))[:, 1]).numpy(), abs=tolerance
    )
