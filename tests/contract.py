"""What the theory modules owe, as checks against ``tests.reference`` that any copy of the package can be put through.

The tests run them on ``carrot`` over many sizes; ``test_mutants.py`` runs the same checks on damaged copies and wants them to fail.
Tolerances: 10 x eps x the condition of what is computed, where the condition is stated in each check.
"""

from types import ModuleType

import numpy as np
import torch

from tests import reference as ref

Array = np.ndarray
EPS = {torch.float32: float(np.finfo(np.float32).eps), torch.float64: float(np.finfo(np.float64).eps)}


def close(actual: torch.Tensor, expected: Array, tolerance: float, what: str) -> None:
    assert tuple(actual.shape) == np.shape(expected), f"{what}: shape {tuple(actual.shape)}, not {np.shape(expected)}"
    error = float(np.max(np.abs(actual.detach().double().numpy() - expected), initial=0.0))
    assert error <= tolerance, f"{what}: off by {error:.2e}, tolerance {tolerance:.2e}"


class Picture:
    """Random tokens on a grid, as float64 arrays and as a RegionSet; clustered, so that weights differ."""

    def __init__(
        self, c: ModuleType, gh: int, gw: int, D: int, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> None:
        N = gh * gw
        rng = np.random.default_rng(seed)
        centres = 2.0 * rng.normal(size=(3, D))
        tokens = centres[rng.integers(0, 3, size=N)] + rng.normal(size=(N, D)) + 1.0
        self.H = torch.tensor(tokens, dtype=dtype)
        self.regions = c.regions.RegionSet(self.H, c.regions.grid_positions(gh, gw, dtype), (gh, gw))
        self.H64 = self.H.double().numpy()
        self.P64 = ref.isotropic(self.regions.positions.double().numpy(), gh, gw)
        self.eps, self.N, self.dtype = EPS[dtype], N, dtype

    def exponent(self, sigma_s: float, sigma_f: float) -> float:
        """Largest exponent's scale: rounding of the distances is this many eps in W."""
        H = self.H64 - self.H64.mean(0)
        distances = [np.linalg.norm(a - b) for i, a in enumerate(H) for b in H[i + 1 :]]
        m = np.median(distances) if distances else 1.0
        return 1.0 + np.max(H**2, initial=0.0) * H.shape[1] / (sigma_f * m) ** 2 + 2.0 / sigma_s**2


def check_graph(
    c: ModuleType, gh: int, gw: int, D: int, dtype: torch.dtype, sigma_s: float = 0.5, sigma_f: float = 1.0
) -> None:
    """W, degree, S and L against the double loop."""
    picture = Picture(c, gh, gw, D, dtype=dtype)
    graph = c.graph.RegionGraphBuilder(sigma_s, sigma_f).build(picture.regions)
    W, degree, L = ref.graph(picture.H64, picture.P64, sigma_s, sigma_f)
    tolerance = 10 * picture.eps * picture.exponent(sigma_s, sigma_f)
    close(graph.W, W, tolerance, "W")
    close(graph.degree, degree, tolerance * picture.N, "degree")
    close(graph.L, L, tolerance, "L")


def check_duplicates(c: ModuleType, dtype: torch.dtype) -> None:
    """Most tokens the same, some far away: the true median is 0 and the feature kernel 1; or tiny, and good to four digits."""
    rng = np.random.default_rng(5)
    for spread in (0.0, 1e-3):
        H = np.repeat(rng.normal(size=(1, 64)), 30, axis=0) + spread * rng.normal(size=(30, 64))
        H[[3, 17]] += 10.0 * rng.normal(size=(2, 64))
        tensor = torch.tensor(H, dtype=dtype)
        regions = c.regions.RegionSet(tensor, c.regions.grid_positions(5, 6, dtype), (5, 6))
        W, _, _ = ref.graph(tensor.double().numpy(), ref.isotropic(regions.positions.double().numpy(), 5, 6), 0.5, 1.0)
        close(c.graph.RegionGraphBuilder().build(regions).W, W, 1e-4 if spread else 1e-6, "W of near duplicates")


def check_diffusion(c: ModuleType, gh: int, gw: int, D: int, t: float, dtype: torch.dtype) -> None:
    """Every route, on tokens and on one vector, against the power series on the same W; then g."""
    picture = Picture(c, gh, gw, D, dtype=dtype)
    N, H = picture.N, picture.H64
    graph = c.graph.RegionGraphBuilder().build(picture.regions)
    W = graph.W.double().numpy()
    degree, L = ref.laplacian(W)
    del degree
    pi = ref.pooling(W, t)
    H_prime = ref.heat(L, t) @ H
    r = c.readout.GraphReadout().weights(N, dtype=dtype)
    # Rounding of L moves exp(-tL) by at most t |dL|, with |dL| <= eps sqrt(N) in the spectral norm.
    rounding = 10 * picture.eps * (1 + t) * np.sqrt(N)
    largest = np.linalg.norm(H, axis=0).max()
    for method in ("auto", "expm", "eigh", "chebyshev", "truncated"):
        rank = max(1, N // 2) if method == "truncated" else None
        operator = c.operator.DiffusionOperator(t, method, rank=rank)
        bound = float(operator.error_bound(graph.L))
        tolerance = rounding + bound * (1 + 1e-6)
        close(operator.forward(picture.H, graph.L), H_prime, tolerance * largest, f"H', {method}")
        close(operator.pull_back(r, graph.L), pi, tolerance / np.sqrt(N), f"pi from L, {method}")
        close(operator.pull_back(r, graph), pi, tolerance / np.sqrt(N), f"pi from the graph, {method}")
        if method == "truncated":  # its bound is attained
            whole = operator.forward(torch.eye(N, dtype=dtype), graph.L).double().numpy()
            norm = np.linalg.norm(whole - ref.heat(L, t), 2)
            assert abs(norm - bound) <= rounding, f"truncation error {norm:.3e}, bound {bound:.3e}"
    pi_ours = c.operator.DiffusionOperator(t).pull_back(r, graph)
    close(c.readout.embed(picture.H, pi_ours), ref.embed(H, W, t), rounding * largest, "g")


def check_subsets(c: ModuleType, gh: int, gw: int, D: int, t: float, dtype: torch.dtype) -> None:
    """Weights of sub-graphs against building the sub-graph again: singles, random subsets, one region, all, none."""
    picture = Picture(c, gh, gw, D, dtype=dtype)
    N = picture.N
    graph = c.graph.RegionGraphBuilder().build(picture.regions)
    W = graph.W.double().numpy()
    rng = np.random.default_rng(1)
    keep = np.concatenate(
        [~np.eye(N, dtype=bool), rng.random((N, 5)) < 0.5, np.eye(N, 1, dtype=bool), np.ones((N, 1), bool)], axis=1
    )
    keep = np.concatenate([keep, np.zeros((N, 1), bool)], axis=1)
    expected = np.zeros(keep.shape)
    for r in range(keep.shape[1]):
        index = np.flatnonzero(keep[:, r])
        if len(index):
            expected[index, r] = ref.pooling(W[np.ix_(index, index)], t)
    ours = c.operator.DiffusionOperator(t).pull_back_subsets(graph, torch.tensor(keep))
    close(ours, expected, 10 * picture.eps * (1 + t), "pi of subsets")
    assert bool((ours[~torch.tensor(keep)] == 0).all()), "a deleted region has weight"


class Training:
    """A random regression problem with means far from 0, weights, and held-out points."""

    def __init__(
        self, c: ModuleType, n: int, D: int, C: int, lam: float, intercept: bool, weighted: bool = True, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.G = rng.normal(size=(n, D)) + 0.5
        self.Y = rng.normal(size=(n, C)) + 0.3
        self.w = rng.uniform(0.5, 2.0, size=n) if weighted else None
        self.g = rng.normal(size=(4, D)) + 0.5
        self.lam, self.intercept, self.n = lam, intercept, n
        self.cond = ref.condition(self.G, lam, intercept, self.w)
        tensor_w = None if self.w is None else torch.tensor(self.w)
        self.head = c.head.RidgeHead(lam, intercept).fit(torch.tensor(self.G), torch.tensor(self.Y), tensor_w)

    def refit(self, G: Array | None = None, Y: Array | None = None, gone: list[int] | None = None) -> Array:
        """Logits at ``g`` of a real refit with other rows."""
        G, Y, w = self.G if G is None else G, self.Y if Y is None else Y, self.w
        if gone:
            G, Y, w = ref.without(G, gone), ref.without(Y, gone), ref.without(w, gone)
        return ref.predict(G, Y, self.lam, self.intercept, self.g, w)

    def tolerance(self, expected: Array) -> float:
        return 10 * EPS[torch.float64] * self.cond * max(1.0, float(np.abs(expected).max()))


def check_head(c: ModuleType, n: int, D: int, C: int, lam: float, intercept: bool, weighted: bool = True) -> None:
    """Weights, bias, duals, leverage and leave-one-out against least squares and n real refits."""
    problem = Training(c, n, D, C, lam, intercept, weighted)
    head, tolerance = problem.head, problem.tolerance
    W_star, b = ref.fit(problem.G, problem.Y, lam, intercept, problem.w)
    close(head.W_star, W_star, tolerance(W_star), "W*")
    close(head.bias, b, tolerance(W_star) * D, "bias")
    logits = problem.refit()
    close(head.predict(torch.tensor(problem.g)), logits, tolerance(logits) * D, "logits")
    close(head.smoother(torch.tensor(problem.g)) @ head.Y, logits, tolerance(logits) * D, "smoother @ Y")
    R = problem.Y - problem.G @ W_star - b
    close(head.residual, R, tolerance(logits) * D, "residual")
    loo = ref.loo(problem.G, problem.Y, lam, intercept, problem.w)
    close(head.loo_predict(), loo, tolerance(loo) * D, "leave-one-out")
    w = np.ones(n) if problem.w is None else problem.w
    mse = float((w[:, None] * (problem.Y - loo) ** 2).sum() / w.sum() / C)
    rows = c.rows.checked_rows(
        torch.tensor(problem.G), torch.tensor(problem.Y), None if problem.w is None else torch.tensor(problem.w)
    )
    path = c.ridge.loo_path(rows, intercept, [lam / 10, lam, lam * 10])
    close(path.mse[1:2], np.array([mse]), tolerance(np.array([mse])) * D, "leave-one-out error on the path")


def check_training_attribution(
    c: ModuleType, n: int, D: int, C: int, lam: float, intercept: bool, weighted: bool = True
) -> None:
    """Every sum over training pictures, and every "what if" against a real refit."""
    a = c.attribution
    problem = Training(c, n, D, C, lam, intercept, weighted)
    head, g, logits = problem.head, torch.tensor(problem.g), problem.refit()
    tolerance = problem.tolerance(logits) * D
    dual = a.training_contribution(g, head.G, head.alpha)
    # alpha = w R / lam: a sum of numbers up to 1 / lam times larger than itself rounds accordingly
    size = float(dual.abs().sum(dim=1).max())
    close(dual.sum(dim=1) + head.bias, logits, tolerance + 10 * EPS[torch.float64] * size, "dual sum")
    close(a.label_contribution(head, g).sum(dim=1), logits, tolerance, "label sum")
    singles = np.stack([logits - problem.refit(gone=[i]) for i in range(n)], axis=1)
    tolerance = problem.tolerance(singles) * D
    close(a.removal_effect(head, g), singles, tolerance, "removal")
    group = [0, 2, n - 1]
    close(a.group_removal_effect(head, g, group), logits - problem.refit(gone=group), tolerance, "group removal")
    Y, G = problem.Y.copy(), problem.G.copy()
    Y[1], G[1] = -2.0, G[1] + 1.0
    y_new = torch.tensor(Y[1])
    close(a.relabel_effect(head, g, 1, y_new), problem.refit(Y=Y) - logits, tolerance, "relabel")
    close(a.replacement_effect(head, g, 1, torch.tensor(G[1])), problem.refit(G=G) - logits, tolerance, "replacement")
    both = problem.refit(G=G, Y=Y) - logits
    close(a.replacement_effect(head, g, 1, torch.tensor(G[1]), y_new), both, tolerance, "replacement and relabel")


def check_region_attribution(c: ModuleType, gh: int, gw: int, D: int, t: float) -> None:
    """Region sums, energies, removals, pairs: against loops on the reference's own pi and H'."""
    a = c.attribution
    picture = Picture(c, gh, gw, D)
    N, H = picture.N, picture.H64
    graph = c.graph.RegionGraphBuilder().build(picture.regions)
    W = graph.W.numpy()
    operator, readout = c.operator.DiffusionOperator(t), c.readout.GraphReadout()
    problem = Training(c, 12, D, 3, 1.0, True)
    head, W_star, b = problem.head, *ref.fit(problem.G, problem.Y, 1.0, True, problem.w)
    pi, H_prime, g = ref.pooling(W, t), ref.heat(ref.laplacian(W)[1], t) @ H, ref.embed(H, W, t)
    logits = g @ W_star + b
    ours = operator.pull_back(readout.weights(N), graph)
    tolerance = (
        10 * EPS[torch.float64] * (1 + t) * np.abs(H).max() * max(1.0, np.abs(W_star).sum(0).max()) * problem.cond
    )
    token = a.region_contribution(picture.H, ours, head.W_star)
    close(token, np.stack([pi[i] * (H[i] @ W_star) for i in range(N)]), tolerance, "token contributions")
    close(token.sum(0) + head.bias, logits, tolerance, "token sum")
    node = a.region_contribution(picture.H, ours, head.W_star, by="node", H_prime=operator(picture.H, graph.L))
    close(node, np.stack([H_prime[i] @ W_star / N for i in range(N)]), tolerance, "node contributions")
    close(node.sum(0) + head.bias, logits, tolerance, "node sum")
    energy = a.node_energy(picture.H, ours)
    close(energy, np.array([pi[i] * H[i] @ g for i in range(N)]), tolerance * D * np.abs(H).max(), "node energy")
    degree, L = ref.laplacian(W)
    F = H / np.sqrt(degree)[:, None]
    dirichlet = [0.5 * sum(W[i, j] * np.sum((F[i] - F[j]) ** 2) for j in range(N)) for i in range(N)]
    scale = tolerance * D * np.abs(H).max()
    close(a.dirichlet_energy(picture.H, graph), np.array(dirichlet), scale, "Dirichlet energy")
    close(a.dirichlet_energy(picture.H, graph).sum(), np.asarray(np.trace(H.T @ L @ H)), scale * N, "Dirichlet sum")
    drops = [logits - (ref.embed_subset(H, W, t, np.arange(N) != i) @ W_star + b) for i in range(N)]
    close(
        a.remove_each_region(picture.H, graph, operator, readout, head), np.stack(drops), tolerance, "single removals"
    )
    order = np.random.default_rng(2).permutation(N)
    rank = np.argsort(order)
    for curve, keeps in ((a.deletion_curve, lambda k: rank >= k), (a.insertion_curve, lambda k: rank < k)):
        expected = np.stack([ref.embed_subset(H, W, t, keeps(k)) @ W_star + b for k in range(N + 1)])
        close(
            curve(picture.H, graph, operator, readout, head, torch.tensor(order)), expected, tolerance, curve.__name__
        )
    # region to region: three "training pictures" with random tokens and weights
    rng = np.random.default_rng(3)
    tokens, weights, alpha = rng.normal(size=(3, 5, D)), rng.normal(size=(3, 5)), rng.normal(size=(3, 3))
    expected = np.zeros((N, 3, 5, 3))
    for j, i, k, cl in np.ndindex(N, 3, 5, 3):
        expected[j, i, k, cl] = pi[j] * weights[i, k] * (H[j] @ tokens[i, k]) * alpha[i, cl]
    pairs = a.pair_contribution(picture.H, ours, *map(torch.tensor, (tokens, weights, alpha)))
    close(pairs, expected, tolerance * D, "pairs")
    one = a.pair_contribution(picture.H, ours, *map(torch.tensor, (tokens, weights, alpha)), target=2)
    close(one, expected[..., 2], tolerance * D, "pairs of one class")


def check_statistics(c: ModuleType) -> None:
    """Statistics of two shards, merged and taken apart again, against those of all rows."""
    problem = Training(c, 30, 4, 2, 1.0, True)
    rows = tuple(torch.tensor(x) for x in (problem.G + 5.0, problem.Y, problem.w))
    whole = c.statistics.RidgeStatistics.from_rows(*rows)
    parts = [c.statistics.RidgeStatistics.from_rows(*(x[a:b] for x in rows)) for a, b in ((0, 11), (11, 30))]
    merged, left = parts[0] + parts[1], whole - parts[1]
    for name in ("g_mean", "y_mean", "S", "Q"):
        close(getattr(merged, name), getattr(whole, name).numpy(), 1e-12, f"merged {name}")  # |G|^2 n eps = 1e-13
        close(getattr(left, name), getattr(parts[0], name).numpy(), 1e-12, f"left {name}")
    centred = (problem.G - np.average(problem.G, axis=0, weights=problem.w)) * np.sqrt(problem.w)[:, None]
    close(whole.moments(True)[0], centred.T @ centred, 1e-12, "S")
