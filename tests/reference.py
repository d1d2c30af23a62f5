"""Slow and obvious oracles in float64 numpy. They import nothing from carrot: loops, dense matrices, power series, real refits."""

import itertools
import math

import numpy as np

Array = np.ndarray


def rng_normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


# ---- graph


def isotropic(P: Array, gh: int, gw: int) -> Array:
    longer = max(gh, gw)
    return np.array([[x * gw / longer, y * gh / longer] for x, y in P])


def graph(H: Array, P: Array, sigma_s: float, sigma_f: float, scale: float | None = None) -> tuple[Array, Array, Array]:
    """W, degree, L by the double loop; scale None: the lower median of pairwise feature distances."""
    N = len(H)
    if scale is None:
        distances = sorted(math.dist(H[i], H[j]) for i in range(N) for j in range(i + 1, N))
        scale = distances[(len(distances) - 1) // 2] if distances else 0.0
    W = np.empty((N, N))
    for i in range(N):
        for j in range(N):
            space = math.exp(-(math.dist(P[i], P[j]) ** 2) / (2 * sigma_s**2))
            feature = 1.0 if scale == 0.0 else math.exp(-(math.dist(H[i], H[j]) ** 2) / (2 * (sigma_f * scale) ** 2))
            W[i, j] = space * feature
    return W, *laplacian(W)


def laplacian(W: Array) -> tuple[Array, Array]:
    N = len(W)
    degree = np.array([sum(W[i, j] for j in range(N)) for i in range(N)])
    L = np.empty((N, N))
    for i in range(N):
        for j in range(N):
            L[i, j] = (1.0 if i == j else 0.0) - W[i, j] / math.sqrt(degree[i] * degree[j])
    return degree, L


# ---- operator


def heat(L: Array, t: float) -> Array:
    """exp(-tL) by its power series, scaled so that it converges fast, then squared back."""
    squarings = max(0, math.ceil(math.log2(max(t, 1e-300)))) + 3
    X = -t / 2**squarings * L
    term, total = np.eye(len(L)), np.eye(len(L))
    for k in range(1, 30):
        term = term @ X / k
        total = total + term
    for _ in range(squarings):
        total = total @ total
    return total


def embed(H: Array, W: Array, t: float, r: Array | None = None) -> Array:
    """g by the literal path: diffuse the tokens, take the mean."""
    _, L = laplacian(W)
    H_prime = heat(L, t) @ H
    r = np.full(len(H), 1.0 / len(H)) if r is None else r
    return sum(r[i] * H_prime[i] for i in range(len(H)))


def pooling(W: Array, t: float, r: Array | None = None) -> Array:
    _, L = laplacian(W)
    r = np.full(len(W), 1.0 / len(W)) if r is None else r
    return heat(L, t).T @ r


def embed_subset(H: Array, W: Array, t: float, keep: Array) -> Array:
    """g of the picture with only the regions ``keep``: the sub-graph built again; 0 when nothing is left."""
    index = np.flatnonzero(keep)
    if len(index) == 0:
        return np.zeros(H.shape[1])
    return embed(H[index], W[np.ix_(index, index)], t)


def shapley(value, N: int) -> Array:
    """Average over all N! orders."""
    total, count = 0.0, 0
    phi = None
    for order in itertools.permutations(range(N)):
        members = np.zeros(N, dtype=bool)
        before = value(members)
        if phi is None:
            phi = np.zeros((N, *np.shape(before)))
        for i in order:
            members[i] = True
            after = value(members)
            phi[i] += after - before
            before = after
        count += 1
    del total
    return phi / count


# ---- head: real fits


def fit(G: Array, Y: Array, lam: float, intercept: bool, w: Array | None = None) -> tuple[Array, Array]:
    """(W*, b) as least squares on stacked rows: [sqrt(w) G, sqrt(w)], [sqrt(lam) I, 0]; no normal equations."""
    n, D = G.shape
    w = np.ones(n) if w is None else w
    root = np.sqrt(w)[:, None]
    rows = np.hstack([root * G, root]) if intercept else root * G
    penalty = np.sqrt(lam) * np.eye(D, rows.shape[1])
    solution = np.linalg.lstsq(
        np.vstack([rows, penalty]), np.vstack([root * Y, np.zeros((D, Y.shape[1]))]), rcond=None
    )[0]
    return (solution[:D], solution[D]) if intercept else (solution, np.zeros(Y.shape[1]))


def predict(G: Array, Y: Array, lam: float, intercept: bool, g: Array, w: Array | None = None) -> Array:
    W_star, b = fit(G, Y, lam, intercept, w)
    return g @ W_star + b


def without(x: Array | None, indices) -> Array | None:
    return None if x is None else np.delete(x, indices, axis=0)


def loo(G: Array, Y: Array, lam: float, intercept: bool, w: Array | None = None) -> Array:
    """Leave-one-out predictions by n real refits."""
    return np.stack([predict(without(G, i), without(Y, i), lam, intercept, G[i], without(w, i)) for i in range(len(G))])


def condition(G: Array, lam: float, intercept: bool, w: Array | None = None) -> float:
    """Condition number of the system that is solved, the squared singular values of G plus lam."""
    w = np.ones(len(G)) if w is None else w
    centre = (w @ G) / w.sum() if intercept else 0.0
    s = np.linalg.svd(np.sqrt(w)[:, None] * (G - centre), compute_uv=False)
    smallest = s[-1] ** 2 if len(G) > G.shape[1] else 0.0
    return float((s[0] ** 2 + lam) / (smallest + lam))
