"""Penalties down to 1e-12: every answer about training pictures against rational arithmetic, which rounds nothing.

At such penalties 1 / lam makes what cancels large. What is tested is what docs/claims.md states: 10 eps x the condition
number of what is solved; of a sum, 10 eps x the sizes of its terms besides; of one dual weight by itself,
10 eps |Y| w / lam besides.
"""

import numpy as np
import pytest
import torch

import carrot.attribution as at
from carrot import RidgeHead
from tests import reference as ref

EPS = float(np.finfo(float).eps)
SIZES = [(12, 3), (5, 4), (4, 4), (4, 6)]  # n > D, n = D + 1 (dual with an intercept), n = D, n < D
LAMS = [1e-3, 1e-8, 1e-12]


def singular(G: np.ndarray, intercept: bool, w: np.ndarray) -> np.ndarray:
    centre = (w @ G) / w.sum() if intercept else 0.0
    s = np.linalg.svd(np.sqrt(w)[:, None] * (G - centre), compute_uv=False)
    return (
        s[: len(s) - 1] if intercept and len(G) <= G.shape[1] else s
    )  # centring takes one direction from few pictures


class Tiny:
    """A problem of dyadic numbers, so that targets can be fitted exactly."""

    def __init__(self, n: int, D: int, lam: float, intercept: bool, exact: bool) -> None:
        rng = np.random.default_rng(n + D)
        self.G = np.round(64 * rng.normal(size=(n, D))) / 64 + 0.5
        self.Y = self.G @ (np.round(16 * rng.normal(size=(D, 2))) / 16) + (0.25 if intercept else 0.0)
        if not exact:
            self.Y = np.round(64 * rng.normal(size=(n, 2))) / 64
        self.w = rng.integers(1, 4, size=n) / 2.0
        self.g = rng.normal(size=(3, D))
        self.lam, self.intercept, self.n = lam, intercept, n
        self.head = RidgeHead(lam, intercept).fit(*map(torch.tensor, (self.G, self.Y, self.w)))
        self.worst = 1.0

    def logits(
        self, gone: tuple[int, ...] = (), G: np.ndarray | None = None, Y: np.ndarray | None = None
    ) -> np.ndarray:
        """Logits at ``g`` of a rational refit; remembers the worst condition number of what was solved."""
        G, Y, w = (ref.without(x, list(gone)) for x in (self.G if G is None else G, self.Y if Y is None else Y, self.w))
        s = singular(G, self.intercept, w) ** 2 + self.lam
        self.worst = max(self.worst, float(s[0] / s[-1]))
        W, b, _ = ref.rational_fit(G, Y, self.lam, self.intercept, w)
        return self.g @ W + b

    def unit(self, *values: np.ndarray) -> float:
        return 10 * EPS * self.worst * max(1.0, *(float(np.abs(x).max()) for x in values))


@pytest.mark.parametrize("exact", [True, False], ids=["exact fit", "noise"])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("lam", LAMS)
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_dual_parts_sum_to_the_logit(n: int, D: int, lam: float, intercept: bool, exact: bool) -> None:
    p = Tiny(n, D, lam, intercept, exact)
    logits = p.logits()
    _, _, alpha = ref.rational_fit(p.G, p.Y, lam, intercept, p.w)
    head, g = p.head, torch.tensor(p.g)
    parts = at.training_contribution(g, head.G, head.alpha)
    terms = parts.abs().sum(1).numpy()
    assert (np.abs((parts.sum(1) + head.bias).numpy() - logits) <= p.unit(logits) + 10 * EPS * terms).all()
    # from the mean training picture, as explanations tell them
    centred = at.training_contribution(g - head.g_mean, head.G - head.g_mean, head.alpha)
    assert (np.abs((centred.sum(1) + head.y_mean).numpy() - logits)
        <= p.unit(logits) + 10 * EPS * centred.abs().sum(1).numpy()).all()  # fmt: skip
    if intercept:
        assert (head.alpha.sum(0).abs() <= 10 * EPS * head.alpha.abs().sum(0)).all()
    single = 10 * EPS * np.abs(p.Y).max() * p.w.max() / lam if n > D else 0.0
    assert np.abs(head.alpha.numpy() - alpha).max() <= p.unit(alpha) + single


@pytest.mark.parametrize("exact", [True, False], ids=["exact fit", "noise"])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("lam", LAMS)
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_what_ifs_equal_rational_refits(n: int, D: int, lam: float, intercept: bool, exact: bool) -> None:
    p = Tiny(n, D, lam, intercept, exact)
    whole, head, g = p.logits(), p.head, torch.tensor(p.g)

    def same(effect: torch.Tensor, expected: np.ndarray, what: str) -> None:
        error, unit = np.abs(effect.numpy() - expected).max(), p.unit(whole, expected, p.Y)
        assert error <= unit, f"{what}: off by {error:.1e}, {unit:.1e} allowed"

    single = np.stack([whole - p.logits((i,)) for i in range(n)], axis=1)
    same(at.removal_effect(head, g), single, "removal")
    group = (0, 2)
    same(at.group_removal_effect(head, g, list(group)), whole - p.logits(group), "group removal")
    Y = p.Y.copy()
    Y[1] = [1.0, -2.0]
    same(at.relabel_effect(head, g, 1, torch.tensor(Y[1])), p.logits(Y=Y) - whole, "relabelling")
    inside = p.G.copy()  # an edit that stays among the others: outside of them K^{-1} is 1 / lam
    inside[1] = 0.5 * (p.G[1] + p.G[2])
    same(at.replacement_effect(head, g, 1, torch.tensor(inside[1])), p.logits(G=inside) - whole, "replacement")
    loo = head.loo_predict().numpy()
    for i in range(n):
        W, b, _ = ref.rational_fit(*(ref.without(x, i) for x in (p.G, p.Y)), lam, intercept, ref.without(p.w, i))
        same(torch.tensor(loo[i]), p.G[i] @ W + b, f"leave-one-out of {i}")


@pytest.mark.parametrize("lam", LAMS)
@pytest.mark.parametrize(("n", "D"), SIZES)
def test_the_kernel_among_what_training_pictures_span(n: int, D: int, lam: float) -> None:
    """With few pictures K^{-1} is 1 / lam outside of their span: none of that may leak into it."""
    p = Tiny(n, D, lam, False, False)
    a, z = p.G[[0, 1]] - 0.5 * p.G[[2, 3]], p.G[[1, 3]]
    expected = ref.rational_kernel(p.G, lam, p.w, a, z)
    found = p.head.kernel(torch.tensor(a), torch.tensor(z)).numpy()
    s = singular(p.G, False, p.w) ** 2
    size = np.abs(a).max() * np.abs(z).max() * D / (s[-1] + lam)
    assert np.abs(found - expected).max() <= 10 * EPS * (s[0] + lam) / (s[-1] + lam) * size
