"""What the theory modules owe, as checks against ``tests.reference`` that any copy of the package can be put through.

The tests run them on ``carrot`` over many sizes; ``test_mutants.py`` runs the same checks on damaged copies and wants
them to fail. Tolerances: 10 x eps x the condition of what is computed, where the condition is stated in each check.
"""

import itertools
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch

from carrot import _choices
from tests import reference as ref

Array = np.ndarray
EPS = {torch.float32: float(np.finfo(np.float32).eps), torch.float64: float(np.finfo(np.float64).eps)}


def inside(c: ModuleType, module: str) -> ModuleType:
    """Return a module of a copy of the theory."""
    return import_module(f"{c.__name__}.{module}")


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
    """Most tokens the same, some far away: the true median is 0 and unlike tokens have no edge.

    Or it is tiny, and good to four digits.
    """
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


def check_any_laplacian(c: ModuleType, t: float) -> None:
    """Symmetric matrices whose spectrum is not in [0, 1], bare and as a graph of neighbours.

    Every door within the bound, or refused.
    """
    N = 8
    rng = np.random.default_rng(6)
    ring = np.roll(np.eye(N), 1, axis=0) + np.roll(np.eye(N), -1, axis=0)
    W = np.eye(N) + ring
    X = rng.normal(size=(N, N))
    _, no_loops = ref.laplacian(ring)
    r = torch.linspace(0.5, 1.5, N, dtype=torch.float64) / N
    graph = c.graph.RegionGraph(torch.tensor(W), torch.tensor(W.sum(1)))
    matrices = {
        "neighbours": ref.laplacian(W)[1],
        "combinatorial": np.diag(W.sum(1)) - W,
        "no self-loops": no_loops,
        "signed": 0.1 * (X + X.T),
    }
    for name, L in matrices.items():
        expected = ref.heat(L, t)
        rounding = 20 * EPS[torch.float64] * N * (1 + t) * np.linalg.norm(expected, 2)
        for method in ("auto", "expm", "eigh", "truncated"):
            operator = c.operator.DiffusionOperator(t, method, rank=3 if method == "truncated" else None)
            for system in (torch.tensor(L), graph) if name == "neighbours" else (torch.tensor(L),):
                bound = rounding + float(operator.error_bound(system)) * (1 + 1e-6)
                whole = operator.forward(torch.eye(N, dtype=torch.float64), system).numpy()
                error = np.linalg.norm(whole - expected, 2)
                assert error <= bound, f"{name}, {method}: off by {error:.1e}, bound {bound:.1e}"
                close(operator.pull_back(r, system), expected @ r.numpy(), bound, f"pi of {name}, {method}")
    keep = np.ones((N, 1), bool)
    keep[2] = False
    index = np.flatnonzero(keep)
    part = ref.pooling(W[np.ix_(index, index)], t)
    found = c.operator.DiffusionOperator(t).pull_back_subsets(graph, torch.tensor(keep))[index, 0]
    close(found, part, 20 * EPS[torch.float64] * (1 + t), "pi of a part of the neighbours")
    skew = torch.tensor(np.eye(N) - W / W.sum(1)[:, None] + 0.1 * np.triu(X, 1))
    try:
        c.operator.DiffusionOperator(t).pull_back(r, skew)
    except ValueError:
        return
    raise AssertionError("an L that is not symmetric was taken")


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
    close(torch.cat([x for _, x in head.loo_blocks()]), loo, tolerance(loo) * D, "leave-one-out by blocks")
    w = np.ones(n) if problem.w is None else problem.w
    mse = float((w[:, None] * (problem.Y - loo) ** 2).sum() / w.sum() / C)
    rows = inside(c, "_ridge.rows").checked_rows(
        torch.tensor(problem.G), torch.tensor(problem.Y), None if problem.w is None else torch.tensor(problem.w)
    )
    path = inside(c, "_ridge.loo").loo_path(rows, intercept, [lam / 10, lam, lam * 10])
    close(path.mse[1:2], np.array([mse]), tolerance(np.array([mse])) * D, "leave-one-out error on the path")


def check_path_of_many_classes(c: ModuleType, n: int = 40, D: int = 4, C: int = 12) -> None:
    """Of so many residuals are not formed: the leave-one-out error on a path, eigenvalues apart and all the same."""
    rng, lams = np.random.default_rng(11), [1e-3, 1e-2, 0.1, 1.0, 10.0]
    path, blocks = inside(c, "_ridge.loo"), inside(c, "_ridge.blocks")
    assert path.pays(D, C, len(lams))
    G, Y = rng.normal(size=(n, D)), rng.normal(size=(n, C)) + 0.3
    for rows in (G + 0.5, np.linalg.qr(G - G.mean(axis=0))[0] + 0.5):
        entries, blocks.ENTRIES = blocks.ENTRIES, 16 * D  # several blocks of rows
        try:
            given = inside(c, "_ridge.rows").checked_rows(torch.tensor(rows), torch.tensor(Y), None)
            found = path.loo_path(given, True, lams).mse
        finally:
            blocks.ENTRIES = entries
        expected = np.array([((Y - ref.loo(rows, Y, lam, True)) ** 2).mean() for lam in lams])
        close(found, expected, 1e-8 * float(expected.max()), "leave-one-out error on a path of many classes")


def check_alone(c: ModuleType, n: int = 40, D: int = 4) -> None:
    """A picture alone in its direction, where 1 - leverage and its residual are rounding: leave-one-out by refits."""
    rng, lam = np.random.default_rng(14), 0.5
    G, Y = rng.normal(size=(n, D)), rng.normal(size=(n, 2))
    G[:, 3] = 0.0
    G[5, 3] = 1e7
    head, loo = inside(c, "head").RidgeHead(lam, True).fit(torch.tensor(G), torch.tensor(Y)), ref.loo(G, Y, lam, True)
    for found in (head.loo_predict(), torch.cat([x for _, x in head.loo_blocks()])):
        close(found, loo, 1e-9, "leave-one-out of a picture alone in its direction")


def check_labels(c: ModuleType, n: int, D: int, C: int, intercept: bool) -> None:
    """Labels, which are never a matrix, against least squares on the matrix: weights, refits, the error on a path."""
    rng, lam = np.random.default_rng(12), 0.5
    labels = torch.tensor(rng.permutation(n) % C)
    G, Y, w = rng.normal(size=(n, D)) + 2.0, np.eye(C)[labels.numpy()], rng.uniform(0.5, 2.0, size=n)
    given = torch.tensor(G), labels, torch.tensor(w)
    head = inside(c, "head").RidgeHead(lam, intercept).fit(*given)
    W_star, b = ref.fit(G, Y, lam, intercept, w)
    close(head.W_star, W_star, 1e-11, "W* of labels")
    close(head.bias, b, 1e-11, "bias of labels")
    loo = ref.loo(G, Y, lam, intercept, w)
    close(head.loo_predict(), loo, 1e-10, "leave-one-out of labels")
    assert np.array_equal(head.Y.numpy(), Y)
    rows, lams = inside(c, "_ridge.rows").checked_rows(*given), [lam * 10.0**e for e in range(-2, 3)]
    assert rows.Y.are_labels
    wrong = [(w[:, None] * (Y - ref.loo(G, Y, x, intercept, w)) ** 2).sum() / w.sum() / C for x in lams]
    found = inside(c, "_ridge.loo").loo_path(rows, intercept, lams).mse
    close(found, np.array(wrong), 1e-8 * max(wrong), "leave-one-out error of labels on a path")


def check_updates(
    c: ModuleType, n: int, D: int, lam: float, intercept: bool, weighted: bool, giant: float = 1.0
) -> None:
    """Pictures go, come, change targets and go again, the first ``giant``.

    After each step the head is that of least squares.
    """
    rng = np.random.default_rng(7)
    G, Y = rng.normal(size=(n, D)) + 0.5, rng.normal(size=(n, 2)) + 0.3
    G[0] *= giant
    w = rng.uniform(0.5, 2.0, size=n) if weighted else np.ones(n)
    head = c.head.RidgeHead(lam, intercept).fit(*map(torch.tensor, (G, Y, w)))
    g = rng.normal(size=(3, D)) + 0.5
    for step in ("relabel", "remove", "add", "relabel", "remove", "relabel", "remove", "add"):
        if step == "remove":
            gone = [len(G) - 2, 0]
            head.remove(gone)
            G, Y, w = (ref.without(x, gone) for x in (G, Y, w))
        elif step == "relabel":
            changed, Y = [len(G) - 1, 1], Y.copy()
            Y[changed] = rng.normal(size=(2, 2)) - 0.7
            head.relabel(changed, torch.tensor(Y[changed]))
        else:
            new = rng.normal(size=(3, D)) - 0.5, rng.normal(size=(3, 2)), rng.uniform(0.5, 2.0, size=3)
            head.add(*map(torch.tensor, new))
            G, Y, w = (np.concatenate(x) for x in zip((G, Y, w), new, strict=True))
        W_star, b = ref.fit(G, Y, lam, intercept, w)
        cond = ref.condition(G, lam, intercept, w)
        tolerance = 10 * EPS[torch.float64] * cond * max(1.0, np.abs(Y).max(), np.abs(W_star).max()) * D
        close(head.W_star, W_star, tolerance, f"W* after {step}")
        close(head.bias, b, tolerance, f"bias after {step}")
        close(head.smoother(torch.tensor(g)) @ head.Y, g @ W_star + b, tolerance, f"smoother after {step}")
        loo = ref.loo(G, Y, lam, intercept, w)
        for found in (head.loo_predict(), torch.cat([x for _, x in head.loo_blocks()])):
            close(found, loo, tolerance * max(1.0, np.abs(loo).max()), f"leave-one-out after {step}")


def check_removals(c: ModuleType, n: int, D: int, lam: float, intercept: bool) -> None:
    """Pictures go, a few at a time, two of them copies, and nothing but weights is asked for; then everything is."""
    rng = np.random.default_rng(13)
    G, Y, w = rng.normal(size=(n, D)) + 2.0, rng.normal(size=(n, 2)) + 5.0, rng.uniform(0.5, 2.0, size=n)
    G[4] = G[1]
    G[n - 1] = 0.999 * G[2]
    worst = ref.condition(G, lam, intercept, w)
    head = c.head.RidgeHead(lam, intercept).fit(*map(torch.tensor, (G, Y, w)))
    for gone in ([2], [n - 2, 3], [0, 1], [2]):
        head.remove(gone)
        G, Y, w = (ref.without(x, gone) for x in (G, Y, w))
        W_star, b = ref.fit(G, Y, lam, intercept, w)
        tolerance = 10 * EPS[torch.float64] * worst * max(np.abs(Y).max(), np.abs(W_star).max()) * D
        close(head.W_star, W_star, tolerance, f"W* without {gone}")
        close(head.bias, b, tolerance, f"bias without {gone}")
        close(head.y_mean, np.average(Y, axis=0, weights=w) if intercept else np.zeros(2), 1e-14, "ym")
    close(head.loo_predict(), ref.loo(G, Y, lam, intercept, w), tolerance, "leave-one-out of what is left")
    assert np.array_equal(head.G.numpy(), G)
    assert np.array_equal(head.sample_weight.numpy(), w)


def check_small_lam(c: ModuleType, lam: float, intercept: bool) -> None:
    """A penalty at which 1 / lam makes rounding large: what cancels must not reach a sum. Against rational numbers."""
    eps = EPS[torch.float64]
    for n, D in ((12, 3), (4, 6)):
        rng = np.random.default_rng(4)
        G, g = np.round(64 * rng.normal(size=(n, D))) / 64 + 0.5, rng.normal(size=(3, D))
        Y, w = G @ (np.round(16 * rng.normal(size=(D, 2))) / 16) + (0.25 if intercept else 0.0), np.full(n, 2.0)
        W_star, b, _ = ref.rational_fit(G, Y, lam, intercept, w)
        head = c.head.RidgeHead(lam, intercept).fit(*map(torch.tensor, (G, Y, w)))
        parts = c.influence.training_contribution(torch.tensor(g), head.G, head.alpha)
        logits = g @ W_star + b
        tolerance = 1e-12 * np.abs(logits).max() + 10 * eps * float(parts.abs().sum(1).max())
        close(parts.sum(1) + head.bias, logits, tolerance, f"dual sum at lam = {lam:g}")
        if intercept:
            close(
                head.alpha.sum(0),
                np.zeros(2),
                10 * eps * float(head.alpha.abs().sum()),
                f"sum of duals at lam = {lam:g}",
            )
        else:
            among = 0.5 * (G[:2] + G[2:4])
            expected = ref.rational_kernel(G, lam, w, among, G[:2])
            close(head.kernel(*map(torch.tensor, (among, G[:2]))), expected, 1e-11, f"kernel at lam = {lam:g}")


def check_giants(c: ModuleType, n: int, D: int, intercept: bool) -> None:
    """A group nearly alone in its directions, and targets far larger than all others: gone to the last digits."""
    rng = np.random.default_rng(13)
    G, Y, g = rng.normal(size=(n, D)), rng.normal(size=(n, 2)), rng.normal(size=(3, D))
    G[:2] *= 200.0
    lam, group = 1e-6, [0, 1, 2]
    head = c.head.RidgeHead(lam, intercept).fit(torch.tensor(G), torch.tensor(Y))
    logits, left = (
        ref.predict(x, y, lam, intercept, g) for x, y in ((G, Y), (ref.without(G, group), ref.without(Y, group)))
    )
    cond = max(ref.condition(x, lam, intercept) for x in (G, ref.without(G, group)))
    effect = c.influence.group_removal_effect(head, torch.tensor(g), group)
    tolerance = 10 * EPS[torch.float64] * cond * np.abs(left).max()
    close(effect, logits - left, tolerance, "removal of a group of giants")
    every = inside(c, "edits.effects").edit_effects_by_class(head, torch.tensor(g), torch.tensor([group, [3, 4, 5]]))
    close(every[:, 0], left - logits, tolerance, "removal of a group of giants, among others")

    G[:2] /= 200.0
    Y[0] *= 1e12
    head = c.head.RidgeHead(1.0, intercept).fit(torch.tensor(G), torch.tensor(Y))
    for gone in ([1], [0]):
        head.remove(gone)
        G, Y = ref.without(G, gone), ref.without(Y, gone)
    W_star, b = ref.fit(G, Y, 1.0, intercept)
    close(head.W_star, W_star, 1e-12, "W* after a giant target is gone")
    close(head.bias, b, 1e-12, "bias after a giant target is gone")


def check_restored(c: ModuleType, n: int, D: int, lam: float, intercept: bool) -> None:
    """A head from its kept state: the same logits bit for bit.

    The rest, and what it becomes, as real least squares has it.
    """
    rng = np.random.default_rng(11)
    G, Y, w, g = (
        rng.normal(size=(n, D)) + 0.5,
        rng.normal(size=(n, 2)),
        rng.uniform(0.5, 2.0, n),
        rng.normal(size=(3, D)),
    )
    old = c.head.RidgeHead(lam, intercept).fit(*map(torch.tensor, (G, Y, w)))
    stored = {name: x.clone(memory_format=torch.contiguous_format) for name, x in old.state().items()}
    head = c.head.RidgeHead.from_state(stored, lam, intercept)
    x = torch.tensor(g)
    assert all(x.is_contiguous() for x in old.state().values()), (
        "a file gives tensors back in another layout: other last bits"
    )
    assert torch.equal(head.predict(x), old.predict(x)), "logits of a restored head are not bit-equal"
    assert torch.equal(head.alpha, old.alpha), "dual weights of a restored head are not bit-equal"
    for step in ("as it is", "relabel", "remove", "add"):
        if step == "relabel":
            Y[2] = [1.5, -0.5]
            head.relabel([2], torch.tensor(Y[[2]]))
        elif step == "remove":
            head.remove([1])
            G, Y, w = (ref.without(values, [1]) for values in (G, Y, w))
        elif step == "add":
            new = rng.normal(size=(2, D)), rng.normal(size=(2, 2)), np.array([0.7, 1.9])
            head.add(*map(torch.tensor, new))
            G, Y, w = (np.concatenate(values) for values in zip((G, Y, w), new, strict=True))
        W_star, b = ref.fit(G, Y, lam, intercept, w)
        unit = 10 * EPS[torch.float64] * ref.condition(G, lam, intercept, w) * D * max(1.0, np.abs(W_star).max())
        close(head.predict(x), g @ W_star + b, unit, f"logits, {step}")
        close(head.smoother(x) @ head.Y, g @ W_star + b, unit, f"smoother, {step}")
        loo = ref.loo(G, Y, lam, intercept, w)
        close(head.loo_predict(), loo, unit * max(1.0, np.abs(loo).max()), f"leave-one-out, {step}")
    assert torch.equal(old.predict(x), c.head.RidgeHead.from_state(old.state(), lam, intercept).predict(x))


def check_contrast(c: ModuleType, spec: str, tau: float | None, share: float | None) -> None:
    """Why class 0 and not class 2: every part is that of the difference of the two logits, by refits and removals."""
    w = Lifted(c, spec, 8, tau=tau, share=share)

    def trace(index: int) -> object:
        graph = c.graph.RegionGraph(w.graphs.W[index], w.graphs.degree[index])
        every = w.regions
        regions = c.regions.RegionSet(w.H[index], every.positions, every.grid_hw, every.num_global)
        return inside(c, "embedding.trace").Trace.of(regions, graph, w.operator, w.readouts[index], w.lift)

    def difference(logits: Array) -> float:
        return float(logits[0] - logits[2])

    e = inside(c, "explanation.parts").take_apart(trace(-1), w.head.logit(0, 2))
    logits = w.logits(w.G64[-1])
    size = w.unit * max(1.0, float((np.abs(w.phi).max(axis=(0, 1)) @ np.abs(w.W_star)).max()))
    close(torch.tensor(e.logit, dtype=torch.float64), np.asarray(difference(logits)), size, "difference of logits")
    for name, total in e.sums.items():
        close(torch.tensor(total, dtype=torch.float64), np.asarray(difference(logits)), 4 * size, f"sum over {name}")
    drops = [difference(logits) - difference(w.value(keep)) for keep in ~np.eye(w.N, dtype=bool)]
    close(e.drop, np.array(drops), 2 * size, "drops")
    refits = [difference(logits) - difference(w.refit([i])) for i in range(8)]
    close(e.removal, np.array(refits), 8 * size, "removal effects")
    large = size * max(1.0, float(np.abs(w.phi @ w.phi[-1].T).max())) * float(np.abs(w.alpha).sum(axis=0).max())
    for i in (0, 5):
        pairs = inside(c, "explanation.parts").region_to_region(trace(-1), trace(i), w.head.logit(0, 2), i)
        expected = (w.G64[-1] - w.g_mean) @ (w.G64[i] - w.g_mean) * difference(w.alpha[i])
        close(pairs.sum(), np.asarray(expected), 2 * large, "sum of pairs")
        close(e.dual[i], np.asarray(expected), 2 * large, "dual")
    weights = torch.linspace(0.5, 2.0, len(w.head.G), dtype=torch.float64)
    weighted = c.head.RidgeHead(1.0, True).fit(w.head.G, w.head.Y, weights)
    missed = weighted.Y - weighted.predict(weighted.G)
    close(weighted.logit(0, 2).residual[:, 0], (missed[:, 0] - missed[:, 2]).numpy(), 4 * size, "residuals")


def check_float32_rows(c: ModuleType, n: int, D: int, lam: float, intercept: bool) -> None:
    """Rows stored in float32, far from 0: every answer is that of their values in float64."""
    rng = np.random.default_rng(8)
    far = 1000.0 if intercept else 0.5
    narrow = torch.tensor(rng.normal(size=(n, D)) + far, dtype=torch.float32)
    Y, G = rng.normal(size=(n, 2)), narrow.double().numpy()
    head = c.head.RidgeHead(lam, intercept).fit(narrow, torch.tensor(Y))
    assert head.G.dtype == torch.float32, "float32 rows were copied to another precision"
    # centred, so that least squares too sees numbers of the size of the spread
    centre = G.mean(axis=0) if intercept else 0.0
    W_star, b = ref.fit(G - centre, Y, lam, intercept)
    tolerance = 10 * EPS[torch.float64] * ref.condition(G, lam, intercept) * D * max(1.0, np.abs(W_star).max()) * far
    close(head.W_star, W_star, tolerance, "W* of float32 rows")
    close(head.predict(narrow), (G - centre) @ W_star + b, tolerance * D, "logits of float32 rows")
    loo = ref.loo(G - centre, Y, lam, intercept)
    close(head.loo_predict(), loo, tolerance, "leave-one-out of float32 rows")
    path = inside(c, "_ridge.loo").loo_path(
        inside(c, "_ridge.rows").checked_rows(narrow, torch.tensor(Y), None), intercept, [lam]
    )
    close(path.mse, np.array([((Y - loo) ** 2).mean()]), tolerance, "path of float32 rows")
    g, rest = G[:2] - centre, ref.without(G, [1, 2]) - centre
    W_rest, b_rest = ref.fit(rest, ref.without(Y, [1, 2]), lam, intercept)
    effect = c.attribution.group_removal_effect(head, narrow[:2], [1, 2])
    close(effect, g @ W_star + b - g @ W_rest - b_rest, tolerance * D, "group removal of float32 rows")


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
    products, smoother = head.account(g)
    ours = a.training_contribution(g, head.G, head.alpha, origin=head.g_mean)
    close(
        products.unsqueeze(-1) * head.alpha, ours.numpy(), tolerance + 10 * EPS[torch.float64] * size, "account, dual"
    )
    close(smoother @ head.Y, logits, tolerance, "account, label")
    singles = np.stack([logits - problem.refit(gone=[i]) for i in range(n)], axis=1)
    tolerance = problem.tolerance(singles) * D
    close(a.removal_effect(head, g), singles, tolerance, "removal")
    again, every = c.head.RidgeHead(lam, intercept).fit(head.G, head.Y, head.sample_weight), dual.numpy()
    for kind, of_all in (("removal", singles), ("dual", every), ("label", a.label_contribution(head, g).numpy())):
        values, index = a.top_training(again, g, n, kind, 1)  # of all, so that each is held
        assert sorted(index[0].tolist()) == list(range(n)), f"the best, {kind}: each picture once"
        chosen = np.take_along_axis(of_all[..., 1], index.numpy(), axis=1)
        close(values, chosen, tolerance + 10 * EPS[torch.float64] * size, f"the best, {kind}")
    group = [0, 2, n - 1]
    close(a.group_removal_effect(head, g, group), logits - problem.refit(gone=group), tolerance, "group removal")
    Y, G = problem.Y.copy(), problem.G.copy()
    Y[1], G[1] = -2.0, G[1] + 1.0
    y_new = torch.tensor(Y[1])
    close(a.relabel_effect(head, g, 1, y_new), problem.refit(Y=Y) - logits, tolerance, "relabel")
    close(a.replacement_effect(head, g, 1, torch.tensor(G[1])), problem.refit(G=G) - logits, tolerance, "replacement")
    relabelled = problem.refit(Y=Y, gone=group) - logits
    close(a.edit_effect(head, g, group, {1: y_new}), relabelled, tolerance, "left out and relabelled")
    both = problem.refit(G=G, Y=Y) - logits
    close(a.replacement_effect(head, g, 1, torch.tensor(G[1]), y_new), both, tolerance, "replacement and relabel")
    # many pictures, several others in the place of each: one question, all at once
    index, G_new = [n - 1, 0, 3], problem.G[:, None] + np.random.default_rng(3).normal(size=(n, 2, D))
    some = torch.tensor(G_new[index])
    logit, at = head.logit(1, 0), g[0]
    k_new = (some - head.g_mean) @ head.inverse_times(at)[:, 0] + head.shift
    close(k_new, head.kernel(at, some.flatten(0, 1)).reshape(3, 2).numpy(), tolerance, "kernel by its inverse")
    k_old = head.smoother(at, index) / head.sample_weight[index]
    ours = head.replacements(index, some).effects(logit, k_old, k_new, logit.predict(some)[..., 0])
    expected = np.zeros((3, 2))
    for place, r in np.ndindex(3, 2):
        G = problem.G.copy()
        G[index[place]] = G_new[index[place], r]
        changed = (problem.refit(G=G) - logits)[0]
        expected[place, r] = changed[1] - changed[0]
    close(ours, expected, tolerance, "replacements")


def really_left_out(problem: Training, Y: Array, gone: list[int], i: int) -> Array:
    """What a fit without some pictures, and without picture i besides, says of i."""
    out = sorted({*gone, i})
    G, Y, w = (None if x is None else ref.without(x, out) for x in (problem.G, Y, problem.w))
    return ref.predict(G, Y, problem.lam, problem.intercept, problem.G[i : i + 1], w)[0]


def check_edited_loo(c: ModuleType, n: int, D: int, lam: float, intercept: bool, weighted: bool = True) -> None:
    """Leave-one-out after edits, one on the other, in any order: against as many real refits."""
    problem = Training(c, n, D, 3, lam, intercept, weighted, seed=1)
    Y, y = problem.Y.copy(), np.array([2.0, -1.0, 0.5])
    edited, gone = problem.head.edited_loo(), list[int]()
    first = (("relabel", 1), ("leave out", 3), ("relabel", n - 1), ("leave out", 0), ("relabel", 2))
    for verb, k in (*first, ("relabel to a new class", n - 2), ("relabel", 5), ("leave out", 1)):
        if verb == "relabel to a new class":
            edited, Y, y = edited.widened(1), np.pad(Y, ((0, 0), (0, 1))), np.array([0.0, 0.5, -1.0, 2.0])
        if verb != "leave out":
            edited, Y[k] = edited.relabelled(k, torch.tensor(y)), y
        else:
            edited, gone = edited.without(k), [*gone, k]
        stay = [i for i in range(n) if i not in gone]
        assert edited.there.nonzero().flatten().tolist() == stay
        expected = np.stack([really_left_out(problem, Y, gone, i) for i in stay])
        tolerance = problem.tolerance(expected) * D
        close(edited.logits[stay], expected, tolerance, f"leave-one-out after edits: {verb} {k}")
        others = np.zeros(Y.shape)
        for j in set(stay) - {4}:
            others[j] = really_left_out(problem, Y, gone, 4) - really_left_out(problem, Y, [*gone, j], 4)
        found = torch.stack([edited.others(4, one) for one in torch.eye(len(y), dtype=torch.float64)], dim=1)
        close(found, others, tolerance, f"what others do, after edits: {verb} {k}")


def check_settled(c: ModuleType, n: int, D: int, C: int, intercept: bool, weighted: bool, lam: float = 0.5) -> None:
    """What settling each label does to everybody's leave-one-out error and answers: against real refits."""
    rng = np.random.default_rng(n + D)
    y = np.arange(n) % C
    G = rng.normal(size=(n, D)) + 1.5 * rng.normal(size=(C, D))[y]
    y[::5] = (y[::5] + 1) % C
    w = rng.uniform(0.3, 2.0, size=n) if weighted else np.ones(n)
    Y, to = np.eye(C)[y], (y + 1 + rng.integers(0, C - 1, size=n)) % C
    head = c.head.RidgeHead(lam, intercept).fit(torch.tensor(G), torch.tensor(Y), torch.tensor(w))
    found = inside(c, "_ridge.settled").Settled.of(head, list(range(n)), to.tolist())
    tolerance = 10 * EPS[torch.float64] * n * ref.condition(G, lam, intercept, w)

    def told(rows: list[int], Y: Array) -> tuple[float, int]:
        logits = ref.loo(G[rows], Y[rows], lam, intercept, w[rows])
        error = float((w[rows] @ ((Y[rows] - logits) ** 2).mean(axis=1)) / w[rows].sum())
        return error, int((logits.argmax(axis=1) == Y[rows].argmax(axis=1)).sum())

    every = list(range(n))
    error, right = told(every, Y)
    close(torch.tensor(found.error, dtype=torch.float64), np.array(error), tolerance * (1 + error), "error as it is")
    assert found.right == right, "right as it is"
    for i in every[:: max(1, n // 12)]:
        other = Y.copy()
        other[i] = np.eye(C)[to[i]]
        for what, error, right, expected in (
            ("relabelled", found.relabelled[i], found.relabelled_right[i], told(every, other)),
            ("left out", found.removed[i], found.removed_right[i], told([j for j in every if j != i], Y)),
        ):
            close(error, np.array(expected[0]), tolerance * (1 + expected[0]), f"error, picture {i} {what}")
            assert int(right) == expected[1], f"right, picture {i} {what}: {int(right)}, not {expected[1]}"


def check_groups(c: ModuleType, n: int, D: int, intercept: bool, lam: float = 0.3) -> None:
    """Groups left out together are told what a refit without them says; copies are tied, others less."""
    problem = Training(c, n, D, 3, lam, intercept, True, seed=2)
    vouching = inside(c, "_ridge.vouching")
    for rows in ([0], [1, 4], [0, 2, 3, n - 1]):
        expected = np.stack(
            [
                ref.predict(
                    *(ref.without(x, rows) for x in (problem.G, problem.Y)),
                    lam,
                    intercept,
                    problem.G[i],
                    ref.without(problem.w, rows),
                )
                for i in rows
            ]
        )
        tolerance = problem.tolerance(expected) * D
        close(vouching.Among(problem.head, range(n)).without(rows), expected, tolerance, f"without {rows}")
    G = torch.tensor(problem.G)
    G[n - 1] = G[n - 2]
    head = c.head.RidgeHead(lam, intercept).fit(G, torch.tensor(problem.Y), torch.tensor(problem.w))
    ties = {(i, j): tie for i, j, tie in vouching.Among(head, range(n)).tied(0.05)}
    Q = head.slack_among(torch.arange(n))
    expected = -Q.sign() * (Q * Q.mT / torch.outer(Q.diagonal(), Q.diagonal())).sqrt()
    groups = [torch.arange(0, n, 2), torch.tensor([n - 1, 1])]
    for rows_of, within in zip(groups, head.slack_within(groups), strict=True):
        close(within, Q[rows_of.unsqueeze(-1), rows_of].numpy(), 1e-9, "Q among the rows of a group")
    assert (n - 2, n - 1) in ties, "copies vouch for each other"
    for (i, j), tie in ties.items():
        assert i < j, "each pair once"
        assert abs(tie - float(expected[i, j])) <= 1e-12, "the tie of two pictures"
    assert len(ties) == int((expected.triu(1) >= 0.05).sum()), "all that are tied"
    assert vouching.merged([(7, 8, 0.2), (4, 1, 0.9), (1, 2, 0.8), (2, 4, 0.1)]) == [(1, 4), (1, 2, 4), (7, 8)]
    long = vouching.merged([(i, i + 1, 1.0 - i / 100) for i in range(30)])
    assert max(map(len, long)) <= vouching.LARGEST, "groups grow without end"


def check_edited_copies(c: ModuleType, n: int, D: int, intercept: bool, lam: float = 1e-8) -> None:
    """Of two copies that are alone in a direction each stands in for the other, until one is left out."""
    rng = np.random.default_rng(0)
    G, Y = rng.normal(size=(n, D)), rng.normal(size=(n, 2))
    G[: n - 2, -1], G[n - 2 :, -1] = 0.0, 30.0
    G[n - 1] = G[n - 2]
    head = c.head.RidgeHead(lam, intercept).fit(torch.tensor(G), torch.tensor(Y))
    edited = head.edited_loo().without(n - 1)
    stay = list(range(n - 1))
    expected = [head.without(n - 1).loo_predict().numpy()]
    tolerance = 1e-8 * float(np.abs(expected[0]).max())  # half of the digits: lam is 1e-8
    close(edited.logits[stay], expected[0], tolerance, "a copy left out")
    again = edited.without(0)  # and what comes after it
    close(again.logits[stay[1:]], head.without([0, n - 1]).loo_predict().numpy(), tolerance, "and another picture")
    question = torch.tensor([1.0, -1.0], dtype=torch.float64)
    effect = (head.loo_predict()[n - 2] - edited.said(n - 2)) @ question
    close(head.edited_loo().others(n - 2, question)[n - 1], effect.numpy(), tolerance, "what a copy does")


def check_chosen_again(c: ModuleType, n: int, D: int, intercept: bool, lams: list[float], kind: str = "noise") -> None:
    """lam without each picture, and what is said of it then: n (n - 1) real refits for each lam.

    ``kind``: "noise", "told" (labels that embeddings tell), "copies" (two that are alone in a direction), "alone"
    (one), "pairs" (copies of every other picture, nearly alone at a small lam, to a few digits) or "nothing"
    (embeddings that are all 0: every penalty is as good).
    """
    rng = np.random.default_rng(n + D)
    labels = np.arange(n) % 3
    G, w = rng.normal(size=(n, D)) + (0.0 if kind == "noise" else 0.8) * labels[:, None], rng.uniform(0.5, 2.0, size=n)
    G *= kind != "nothing"
    if kind in ("copies", "alone"):
        G[:, -1] = 0.0
        G[n - 2 :, -1] = 30.0 if kind == "copies" else [0.0, 30.0]
    if kind == "copies":
        G[n - 1] = G[n - 2]
    if kind == "pairs":
        G[1::2] = G[: n - 1 : 2]
    again = c.head.RidgeHead(1.0, intercept).fit(*map(torch.tensor, (G, labels, w))).loo_again(lams)
    Y, chosen, mse, said, accuracy = np.eye(3)[labels], [], [], [], []
    for i in range(n):
        rest = [ref.without(x, i) for x in (G, Y, w)]
        lam, error = ref.loo_choice(rest[0], rest[1], lams, intercept, rest[2])
        chosen.append(lam)
        mse.append(error)
        said.append(ref.predict(rest[0], rest[1], lam, intercept, G[i], rest[2]))
        accuracy.append((ref.loo(rest[0], rest[1], lam, intercept, rest[2]).argmax(1) == ref.without(labels, i)).mean())
    half = 1e-6 if kind in ("copies", "alone") else None  # a third of the digits: condition 1e11 at lam = 1e-8
    if kind == "pairs":  # a slack of a pair of 1e-6 leaves ten digits of what is divided by it
        half = 1e-9
    tolerance = half or 10 * EPS[torch.float64] * ref.condition(G, min(lams), intercept, w) * max(n, D)  # long sums
    close(again.lams, np.array(chosen), 0.0, f"lam chosen again, {kind}")
    close(again.mse, np.array(mse), tolerance * max(1.0, max(mse)), f"its error, {kind}")
    close(again.logits, np.stack(said), tolerance * max(1.0, np.abs(said).max()), f"what is said then, {kind}")
    if kind != "nothing":  # there all logits are equal, and rounding says which is first
        close(again.accuracy(torch.tensor(labels)), np.array(accuracy), 1e-12, f"accuracy of the others, {kind}")


def check_conformal(c: ModuleType, n: int, D: int, C: int, lam: float, intercept: bool, alone: bool = False) -> None:
    """p-values of every candidate label, and the leave-one-out logits behind them: against n + 1 real refits each.

    ``alone``: one training picture, and one test picture of two, has a direction of its own.
    """
    rng = np.random.default_rng(n + C)
    labels = np.append(np.arange(n) % C, 0)[:n]
    G, g = rng.normal(size=(n, D)) + 0.5 * labels[:, None], rng.normal(size=(2, D)) + 0.5
    w, weight = rng.uniform(0.5, 2.0, size=n), rng.uniform(0.5, 2.0, size=C)
    weight[-1] = weight[0]  # two labels that count alike
    if alone:
        G[:, -1], g[:, -1] = np.eye(n)[0] * 30.0, [0.0, 20.0]
    head = c.head.RidgeHead(lam, intercept).fit(*map(torch.tensor, (G, labels, w)))
    for per_class in (False, True):
        expected = np.stack([ref.conformal(G, labels, C, lam, intercept, x, w, weight, per_class) for x in g])
        found = head.label_p_values(torch.tensor(g), per_class, torch.tensor(weight))
        close(found, expected, 1e-12, f"p-values, by class {per_class}")
    joining = inside(c, "_ridge.conformal").Joining(head)
    for row, k, kappa in joining._kernels(torch.tensor(g)):
        joined = joining._joined(torch.tensor(g[row]), head.predict(torch.tensor(g[row])), k, kappa, float(weight[1]))
        Y, heavier = np.eye(C)[np.append(labels, 1)], np.append(w, weight[1])
        expected = ref.loo(np.vstack([G, g[row]]), Y, lam, intercept, heavier)[:-1]
        base = torch.cat([joining._base(joined, slice(0, 2)), joining._base(joined, slice(2, n))])
        base[:, 1] += joined.a
        tolerance = 10 * EPS[torch.float64] * ref.condition(G, lam, intercept, w) * max(n, D)
        tolerance *= max(1.0, np.abs(expected).max())
        close(base, expected, 1e-7 if alone else tolerance, "leave-one-out with a picture more")  # half the digits: lam


def really_edited(problem: Training, edit: Any) -> tuple[Array, Array, Array]:
    """Rows, targets and weights after an edit, by hand."""
    G, Y, w = problem.G.copy(), problem.Y.copy(), np.ones(problem.n) if problem.w is None else problem.w.copy()
    one = np.eye(Y.shape[1])
    for i, y in edit.relabel.items():
        Y[i] = y.numpy() if isinstance(y, torch.Tensor) else one[y]
    for i, weight in edit.reweight.items():
        w[i] = weight
    for i, given in edit.replace.items():
        G[i], y = (
            x.numpy() if isinstance(x, torch.Tensor) else x
            for x in (given if isinstance(given, tuple) else (given, None))
        )
        Y[i] = Y[i] if y is None else one[y]
    G, Y, w = (ref.without(x, list(edit.delete)) for x in (G, Y, w))
    if edit.add is not None:
        new, labels, weights = (*edit.add, torch.ones(len(edit.add[0])))[:3]
        G, Y, w = (
            np.concatenate([G, new.numpy()]),
            np.concatenate([Y, one[labels.numpy()]]),
            np.append(w, weights.numpy()),
        )
    return G, Y, w


def check_edits(c: ModuleType, n: int, D: int, lam: float, intercept: bool, weighted: bool = True) -> None:
    """Edits of every kind and mixture, all at once, and every pair left out: against least squares."""
    C = 3
    problem = Training(c, n, D, C, lam, intercept, weighted)
    e, g, rng = inside(c, "edits.effects"), torch.tensor(problem.g), np.random.default_rng(12)

    def z(*shape: int) -> torch.Tensor:
        return torch.tensor(2.0 * rng.normal(size=(*shape, D)) - 0.5)

    two = torch.tensor([2, 0])
    edits = [
        e.Edit(delete=[1]),
        e.Edit(delete=[0, n - 1, 2]),
        e.Edit(relabel={2: 1, 0: torch.tensor([0.2, -1.0, 3.0])}),
        e.Edit(reweight={0: 0.3}),
        e.Edit(reweight={1: 40.0, 3: 0.01}),
        e.Edit(add=(z(1), two[:1])),
        e.Edit(add=(z(2), two, torch.tensor([0.5, 3.0]))),
        e.Edit(replace={3: z()}),
        e.Edit(replace={3: (z(), 2), 1: z()}),
        e.Edit(delete=[0], relabel={1: 2, 2: 0}),
        e.Edit(relabel={1: 2}, reweight={1: 0.2}),
        e.Edit([0, 4], {1: 2}, {2: 0.1}, (z(2), two), {3: z()}),
    ]
    rows = [really_edited(problem, edit) for edit in edits]
    before = problem.refit()
    effects = np.stack([ref.predict(G, Y, lam, intercept, problem.g, w) - before for G, Y, w in rows], axis=1)
    cond = max([problem.cond, *(ref.condition(G, lam, intercept, w) for G, _, w in rows)])
    tolerance = 10 * EPS[torch.float64] * cond * max(1.0, np.abs(effects).max()) * D
    pool = inside(c, "_ridge.pool")
    for table in (pool.TABLE, 0):  # inner products of the pool all at once, and pair by pair
        pool.TABLE, kept = table, pool.TABLE
        try:
            found = e.edit_effects_by_class(problem.head, g, edits)
        finally:
            pool.TABLE = kept
        close(found, effects, tolerance, "edits of every kind")
    target, against = torch.tensor([0, 1, 2, 1]), torch.tensor([1, 2, 1, 0])
    each = np.arange(4)
    asked = effects[each, :, target.numpy()] - effects[each, :, against.numpy()]
    close(e.edit_effects(problem.head, g, edits, target, against), asked, tolerance, "edits, each of its own question")
    close(e.edit_effects(problem.head, g, edits, 2), effects[..., 2], tolerance, "edits, one question")
    pairs = list(itertools.combinations(range(n), 2))[:: max(1, n // 6)]
    left = np.stack([problem.refit(gone=list(pair))[:, 1] - before[:, 1] for pair in pairs], axis=1)
    close(e.edit_effects(problem.head, g, torch.tensor(pairs), 1), left, tolerance, "pairs left out")
    close(
        e.edit_effects(problem.head, g, torch.tensor([[k] for k in range(n)]), 1),
        left_out_alone(problem),
        tolerance,
        "each left out",
    )


def check_subsets_of_few(c: ModuleType) -> None:
    """The bound and the search against all sets of random systems, loose and tight."""
    subsets, n = inside(c, "_ridge.subsets"), 6
    for seed in range(24):
        rng, strength = np.random.default_rng(seed), (0.3, 0.6, 0.95)[seed % 3]
        X = rng.normal(size=(n, n + 1))
        S = X @ X.T
        E = -strength * S / np.sqrt(np.outer(S.diagonal(), S.diagonal()))
        np.fill_diagonal(E, 0.0)
        a, b = rng.normal(size=(2, n))
        system = tuple(map(torch.tensor, (E, a, b)))
        for k in (2, 3, 4):
            sets = [list(U) for U in itertools.combinations(range(n), k)]
            values = [a[U] @ np.linalg.inv(np.eye(k) - E[np.ix_(U, U)]) @ b[U] for U in sets]
            h, most = subsets.bound(*system[1:], subsets.row_sums(system[0], k), k)
            for U, value in zip(sets, values, strict=True):
                assert value <= min(float(h[U].sum()), most) + 1e-9 * abs(value), "a set that is above its bound"
            best = max(values)
            margin = 1e-6 * (1.0 + abs(best))
            found = subsets.Search(10_000, None).find(*system, best - margin, k)
            assert found is not None, "a set that was not found"
            assert values[sets.index(sorted(found))] >= best - 2 * margin, "a set that isn't enough"
            assert subsets.Search(10_000, None).find(*system, best + margin, k) is None, "a set that isn't there"


def check_flips(c: ModuleType) -> None:
    """The smallest removals and relabellings against all sets of up to three, of pictures that stand in for others."""
    flips = inside(c, "edits.flips")
    for seed in range(10):
        rng = np.random.default_rng(seed)
        n, C, lam, mix = 9, 3, (0.1, 0.3)[seed % 2], (0.4, 0.0)[seed % 5 == 0]
        labels = np.arange(n) % C
        G = np.eye(C, 4)[labels] + 0.25 * rng.normal(size=(n, 4))
        g = (1 - mix) * np.eye(4)[0] + mix * np.eye(4)[1] + 0.1 * rng.normal(size=4)
        Y, w = np.eye(C)[labels], rng.uniform(0.1, 5.0, n)
        head = c.head.RidgeHead(lam, True).fit(*map(torch.tensor, (G, labels, w)))
        predicted = int(ref.predict(G, Y, lam, True, g, w).argmax())

        def flipped(k: int, edit: Any, predicted: int = predicted, n: int = n) -> bool:
            return any(int(edit(list(U)).argmax()) != predicted for U in itertools.combinations(range(n), k))

        def without(U: list[int], data: Any = (G, Y, w), lam: float = lam, g: Array = g) -> Array:
            left, targets, weights = (ref.without(x, U) for x in data)
            return ref.predict(left, targets, lam, True, g, weights)

        def relabelled(U: list[int], new: Any, data: Any = (G, Y, w), lam: float = lam, g: Array = g) -> Array:
            targets = data[1].copy()
            targets[U] = np.eye(targets.shape[1])[list(new)]
            return ref.predict(data[0], targets, lam, True, g, data[2])

        found = flips.RemovalFlips(head).of(torch.tensor(g), exact=3)
        size = next((k for k in (1, 2, 3) if flipped(k, without)), 4)
        assert found.least <= size, f"a removal of {size} flips, not {found.least} at least"
        if size < 4:
            assert found.is_smallest, "a small removal isn't proven"
            assert len(found.indices) == size, f"a removal of {len(found.indices)}, where {size} do"
        if found.becomes is not None:
            assert int(without(list(found.indices)).argmax()) == found.becomes, "a removal that doesn't flip"
        size = next(
            (
                k
                for k in (1, 2)
                if any(
                    flipped(k, lambda U, new=new: relabelled(U, new)) for new in itertools.product(range(C), repeat=k)
                )
            ),
            3,
        )
        found = flips.smallest_relabelling(head, torch.tensor(g))
        assert min(found.least, 3) == size, f"a relabelling of {size} flips, not {found.least} at least"
        if found.becomes is not None:
            new = relabelled(list(found.indices), found.labels)
            assert int(new.argmax()) == found.becomes, "a relabelling that doesn't flip"


def left_out_alone(problem: Training) -> Array:
    """What each picture's leaving does to class 1, by refits."""
    return np.stack([(problem.refit(gone=[i]) - problem.refit())[:, 1] for i in range(problem.n)], axis=1)


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
    node = a.region_contribution(picture.H, ours, head.W_star, "node", operator=operator, graph=graph)
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


LIFTS = tuple(f"{name}:12" if lift.has_width else name for name, lift in _choices.LIFTS.items())


def lift(c: ModuleType, spec: str, seed: int = 0, gamma: float = 2.0) -> Any:
    """The lift of ``spec``, with a seed and a bandwidth where it has them."""
    name, _, width = spec.partition(":")
    if name == "fourier":
        return c.lift.FourierLift(int(width), gamma, seed)
    if name in ("relu", "sketch"):
        return {"relu": c.lift.ReluLift, "sketch": c.lift.SketchLift}[name](int(width), seed)
    return c.lift.lift_from(spec)


def explicit(spec: str, H: Array, seed: int = 0, gamma: float = 2.0) -> Array:
    """phi of every token by the reference.

    Its random numbers are drawn here again: a seed names the same map for ever.
    """
    name, _, width = spec.partition(":")
    D, generator = H.shape[1], torch.Generator().manual_seed(seed)
    if name == "identity":
        return H
    if name == "quadratic":
        return ref.quadratic(H)
    M = int(width)
    if name == "sketch":
        draws = [
            (torch.randint(M, (D, 1), generator=generator), torch.randint(2, (D, 1), generator=generator)) for _ in "12"
        ]
        place, bit = (np.stack([x.squeeze(1).numpy() for x in both]) for both in zip(*draws, strict=True))
        return ref.tensor_sketch(H, place, 2.0 * bit - 1.0, M)
    columns = M if name == "relu" else M // 2
    Omega = torch.randn(D, columns, dtype=torch.float64, generator=generator).numpy()
    return ref.relu(H, Omega) if name == "relu" else ref.fourier(H, np.sqrt(2.0 * gamma) * Omega)


def check_lift(
    c: ModuleType, spec: str, N: int, D: int, dtype: torch.dtype = torch.float64, seed: int = 0, gamma: float = 2.0
) -> None:
    """phi, embeddings, kernel and scores against phi written out; weights of either sign; a token of zeros."""
    rng = np.random.default_rng(11)
    H = torch.tensor(rng.normal(size=(2, N, D)) + 0.3, dtype=dtype)
    H[0, 0] = 0.0
    pi, other = torch.tensor(rng.normal(size=(2, N))), torch.tensor(rng.normal(size=(2, 3, D)), dtype=dtype)
    phi = np.stack([explicit(spec, h, seed, gamma) for h in H.double().numpy()])
    phi_other = np.stack([explicit(spec, h, seed, gamma) for h in other.double().numpy()])
    M = phi.shape[2]
    W_star = torch.tensor(rng.normal(size=(M, 3)))
    ours = lift(c, spec, seed, gamma)
    assert ours.dim(D) == M, f"{spec}: dim {ours.dim(D)}, not {M}"
    # sums of up to max(N, M, D^2) products of factors no larger than these
    size = max(1.0, np.abs(phi).max(), np.abs(phi_other).max(), float(H.square().max()))
    tolerance = 10 * EPS[torch.float64] * max(N, M, D * D) * size**2
    for answer, expected, what in (
        (ours.features(H), phi, "phi"),
        (ours.embed(H, pi), np.stack([ref.mean_map(phi[b], pi[b].numpy()) for b in range(2)]), "g"),
        (ours.embed(H[1], pi[1]), ref.mean_map(phi[1], pi[1].numpy()), "g of one picture"),
        (ours.kernel(H, other), np.stack([p @ q.T for p, q in zip(phi, phi_other, strict=True)]), "kernel"),
        (ours.scores(H, W_star), phi @ W_star.numpy(), "scores"),
        (ours.region_scores(H, pi, W_star), pi[..., None].numpy() * (phi @ W_star.numpy()), "region scores"),
    ):
        close(answer, expected, tolerance, f"{spec}: {what}")
        assert answer.dtype == torch.float64, f"{spec}: {what} in {answer.dtype}"


def check_isolated(c: ModuleType, gh: int, gw: int, D: int, K: int) -> None:
    """The graph with K global regions: that of the others, to the last bandwidth, and K nodes that nothing reaches."""
    picture = Picture(c, gh, gw, D)
    tokens = torch.tensor(np.random.default_rng(4).normal(size=(K, D)))
    regions = picture.regions.with_global(tokens)
    graph = c.graph.RegionGraphBuilder().build(regions)
    W = ref.isolated(ref.graph(picture.H64, picture.P64, 0.5, 1.0)[0], K)
    degree, L = ref.laplacian(W)
    tolerance = 10 * picture.eps * picture.exponent(0.5, 1.0)
    close(graph.W, W, tolerance, "W with global nodes")
    close(graph.degree, degree, tolerance * picture.N, "degree with global nodes")
    close(graph.L, L, tolerance, "L with global nodes")
    assert not graph.L[picture.N :].any(), "heat reaches a global node"
    assert torch.equal(c.operator.DiffusionOperator(2.0)(regions.features, graph.L)[picture.N :], tokens)


def check_readout(c: ModuleType, N: int, K: int, tau: float, share: float) -> None:
    """r by loops: the mean, a source, and both with global regions; one picture and two."""
    u = np.random.default_rng(6).normal(size=(2, N))
    tolerance = 10 * EPS[torch.float64] * (1.0 + tau * float(np.abs(u).max()))  # exp(tau u) magnifies rounding by tau u
    for kind in ("mean", "source"):
        for b in (0, 1, slice(None)):
            r = c.readout.GraphReadout(kind, tau, share).at(N + K, torch.tensor(u[b]), K).weights(N + K)
            rows = [
                ref.source_weights(x, tau) if kind == "source" else np.full(N, 1.0 / N) for x in np.atleast_2d(u[b])
            ]
            rows = [ref.with_share(x, share, K) if K else x for x in rows]
            close(r, np.stack(rows) if r.ndim == 2 else rows[0], tolerance, f"r, {kind}")


class Lifted:
    """n training pictures and one test picture under a lift.

    With the reference's phi, pi, embeddings and ridge beside the package's.

    Args:
        c: The package.
        spec: Lift.
        n: Training pictures.
        t: Diffusion time.
        tau: Of a source readout, by cosines to a token of the picture's own; None: the mean.
        share: What K = 2 global regions weigh; None: there are none.
    """

    def __init__(
        self, c: ModuleType, spec: str, n: int, t: float = 1.5, tau: float | None = None, share: float | None = None
    ) -> None:
        rng = np.random.default_rng(9)
        D = 4 if spec == "quadratic" else 12 if spec == "identity" else 5
        N, K, C = 4 if share is not None else 5, 0 if share is None else 2, 3
        centres = rng.normal(size=(C, D))
        tokens = centres[np.arange(n + 1) % C][:, None] + rng.normal(size=(n + 1, N + K, D))
        source = rng.normal(size=(n + 1, D))
        self.n, self.t, self.C, self.N, self.spec = n, t, C, N + K, spec
        regions = c.regions.RegionSet(
            torch.tensor(tokens[:, :N]), c.regions.grid_positions(1, N, torch.float64), (1, N)
        )
        W_local = c.graph.RegionGraphBuilder().build(regions).W.numpy()
        if K:
            regions = regions.with_global(torch.tensor(tokens[:, N:]))
        self.regions, self.H, self.graphs = regions, regions.features, c.graph.RegionGraphBuilder().build(regions)
        self.operator, self.lift = c.operator.DiffusionOperator(t), lift(c, spec)
        unbound = c.readout.GraphReadout("mean" if tau is None else "source", tau or 1.0, share or 0.0)
        u = c.readout.cosine_source(regions.local.features, torch.tensor(source))
        self.readouts = [unbound.at(N + K, x, K) for x in u]
        self.pi = torch.stack([
            self.operator.pull_back(readout.weights(N + K), W)
            for readout, W in zip(self.readouts, self.graphs.L, strict=True)
        ])  # fmt: skip
        self.G = self.lift.embed(self.H, self.pi)
        labels = torch.arange(n) % C
        self.lam = 0.5
        self.head = c.head.RidgeHead(self.lam, True).fit(self.G[:-1], labels)
        # the test picture is the last
        self.x = (
            self.H[-1],
            c.graph.RegionGraph(self.graphs.W[-1], self.graphs.degree[-1]),
            self.operator,
            self.readouts[-1],
            self.head,
        )

        self.W64 = np.stack([ref.isolated(W, K) for W in W_local])
        rows = [
            np.full(N, 1.0 / N) if tau is None else ref.source_weights(ref.cosines(h[:N], s), tau)
            for h, s in zip(tokens, source, strict=True)
        ]
        self.r64 = np.stack([ref.with_share(r, share or 0.0, K) if K else r for r in rows])
        self.phi = np.stack([explicit(spec, h) for h in tokens])
        self.pi64 = np.stack([ref.pooling(W, t, r) for W, r in zip(self.W64, self.r64, strict=True)])
        # the literal path: every feature of phi diffused, then read out
        self.G64 = np.stack([ref.embed(phi, W, t, r) for phi, W, r in zip(self.phi, self.W64, self.r64, strict=True)])
        self.Y = np.eye(C)[labels.numpy()]
        self.W_star, self.b = ref.fit(self.G64[:-1], self.Y, self.lam, True)
        self.alpha = (self.Y - self.G64[:-1] @ self.W_star - self.b) / self.lam
        self.g_mean, self.y_mean = self.G64[:-1].mean(axis=0), self.Y.mean(axis=0)
        self.unit = 10 * EPS[torch.float64] * (1.0 + t) * ref.condition(self.G64[:-1], self.lam, True)
        assert self.unit <= 1e-10, f"ill-conditioned: {self.unit:.1e}"

    def logits(self, g: Array) -> Array:
        return g @ self.W_star + self.b

    def value(self, keep: Array) -> Array:
        """Logits of the test picture with only ``keep``: its sub-graph built and diffused again."""
        r = ref.restricted(self.r64[-1], keep, self.regions.num_global)
        return self.logits(ref.embed_subset(self.phi[-1], self.W64[-1], self.t, keep, r))

    def refit(self, gone: list[int]) -> Array:
        return ref.predict(ref.without(self.G64[:-1], gone), ref.without(self.Y, gone), self.lam, True, self.G64[-1])


def check_lifted_attribution(
    c: ModuleType, spec: str, n: int, tau: float | None = None, share: float | None = None, t: float = 1.5
) -> None:
    """Every additive answer and every counterfactual under a lift and a readout, each against phi written out."""
    a, w = c.attribution, Lifted(c, spec, n, t, tau, share)
    H, graph, operator, readout, head = w.x
    N, phi, pi, g, r, W_star, b = w.N, w.phi[-1], w.pi64[-1], w.G64[-1], w.r64[-1], w.W_star, w.b
    # any convex combination of phi's rows has terms no larger than these
    terms = max(1.0, float((np.abs(w.phi).max(axis=(0, 1)) @ np.abs(W_star)).max()) + float(np.abs(b).max()))

    def same(actual: torch.Tensor, expected: Array, what: str, size: float = terms) -> None:
        # and to 1e-10 of the answer, whatever its terms: 1e-12 was the worst seen
        tolerance = min(w.unit * size, 1e-10 * float(np.abs(expected).max()))
        close(actual, np.asarray(expected), tolerance, f"{spec}: {what}")

    same(w.G, w.G64, "embeddings", max(1.0, float(np.abs(w.phi).max())))
    logits = w.logits(g)
    same(head.predict(w.G[-1]), logits, "logits")
    # regions of the picture
    total = pi.sum()
    mean = w.g_mean @ W_star
    nodes = ref.heat(ref.laplacian(w.W64[-1])[1], t) @ phi
    node_options = {"operator": operator, "graph": graph, "r": readout.weights(N)}
    for origin, offset, prior in ((None, 0.0 * mean, b), (torch.tensor(w.g_mean), mean, w.y_mean)):
        token = a.region_contribution(H, w.pi[-1], head.W_star, lift=w.lift, origin=origin)
        same(token, np.stack([pi[i] * (phi[i] @ W_star) - pi[i] / total * offset for i in range(N)]), "tokens")
        same(token.sum(0) + torch.tensor(prior), logits, "token sum")
        node = a.region_contribution(H, w.pi[-1], head.W_star, "node", **node_options, lift=w.lift, origin=origin)
        same(node, np.stack([r[i] * (nodes[i] @ W_star) - r[i] / r.sum() * offset for i in range(N)]), "nodes")
        same(node.sum(0) + torch.tensor(prior), logits, "node sum")
    square = max(1.0, float(np.abs(w.phi @ w.phi[-1].T).max()))
    energy = a.node_energy(H, w.pi[-1], w.lift)
    same(energy, np.array([pi[i] * (phi[i] @ g) for i in range(N)]), "node energy", square)
    same(energy.sum(), g @ g, "energy sum", square)
    # regions removed
    full = np.ones(N, dtype=bool)
    memory: dict[bytes, Array] = {}

    def value(keep: Array) -> Array:
        if keep.tobytes() not in memory:
            memory[keep.tobytes()] = w.value(keep)
        return memory[keep.tobytes()]

    singles = ~np.eye(N, dtype=bool)
    same(a.remove_each_region(*w.x, w.lift), np.stack([logits - value(keep) for keep in singles]), "single removals")
    keeps = np.array(list(itertools.product([False, True], repeat=N)))
    same(a.remove_regions(*w.x, torch.tensor(keeps.T), w.lift), np.stack([value(keep) for keep in keeps]), "subsets")
    order = np.random.default_rng(2).permutation(N)
    rank = np.argsort(order)
    for curve, kept in ((a.deletion_curve, lambda k: rank >= k), (a.insertion_curve, lambda k: rank < k)):
        expected = np.stack([value(kept(k)) for k in range(N + 1)])
        same(curve(*w.x, torch.tensor(order), w.lift), expected, curve.__name__)
    shapley, errors = a.region_shapley(*w.x, lift=w.lift)
    same(shapley, ref.shapley(value, N), "Shapley values", N * terms)
    same(shapley.sum(0), logits - b, "sum of Shapley values", N * terms)
    assert not errors.any()
    sampled, _ = a.region_shapley(*w.x, n_samples=4, lift=w.lift)
    same(sampled.sum(0), logits - b, "sum of sampled Shapley values", N * terms)
    interactions = np.zeros((N, N))
    for i, j in itertools.permutations(range(N), 2):
        interactions[i, j] = (value(full) - value(singles[i]) - value(singles[j]) + value(singles[i] & singles[j]))[1]
    same(a.region_interactions(*w.x, target=1, lift=w.lift), interactions, "interactions", 4.0 * terms)
    # training pictures
    large = square * max(1.0, float(np.abs(w.alpha).sum(axis=0).max()))
    dual = a.training_contribution(w.G[-1], head.G, head.alpha)
    same(dual, np.stack([(g @ w.G64[i]) * w.alpha[i] for i in range(n)]), "dual", large)
    same(dual.sum(0) + head.bias, logits, "dual sum", large)
    same(a.label_contribution(head, w.G[-1]).sum(0), logits, "label sum")
    same(
        a.removal_effect(head, w.G[-1]),
        np.stack([logits - w.refit([i]) for i in range(n)]),
        "removal effects",
        4.0 * terms,
    )
    group = [0, n - 1]
    same(a.group_removal_effect(head, w.G[-1], group), logits - w.refit(group), "group removal", 4.0 * terms)
    # region to region
    train = (w.H[:-1], w.pi[:-1], head.alpha)
    for origin, o, prior in ((None, 0.0 * w.g_mean, b), (torch.tensor(w.g_mean), w.g_mean, w.y_mean)):
        expected = np.zeros((N, n, N, w.C))
        for j, i, k in np.ndindex(N, n, N):
            left, right = phi[j] - o / total, w.phi[i, k] - o / w.pi64[i].sum()
            expected[j, i, k] = pi[j] * w.pi64[i, k] * (left @ right) * w.alpha[i]
        pairs = a.pair_contribution(H, w.pi[-1], *train, lift=w.lift, origin=origin)
        same(pairs, expected, "pairs", large)
        same(pairs.sum(dim=(0, 1, 2)) + torch.tensor(prior), logits, "sum of pairs", large)
        contributions = [((g - o) @ (w.G64[i] - o)) * w.alpha[i] for i in range(n)]
        same(pairs.sum(dim=(0, 2)), np.stack(contributions), "pairs of a picture", large)
        one = a.pair_contribution(H, w.pi[-1], *train, target=2, lift=w.lift, origin=origin)
        same(one, expected[..., 2], "pairs of one class", large)


def check_statistics(c: ModuleType) -> None:
    """Statistics of two shards, merged and taken apart again, against those of all rows."""
    problem = Training(c, 30, 4, 2, 1.0, True)
    rows = tuple(torch.tensor(x) for x in (problem.G + 5.0, problem.Y, problem.w))
    whole = inside(c, "_ridge.statistics").RidgeStatistics.from_rows(*rows)
    parts = [
        inside(c, "_ridge.statistics").RidgeStatistics.from_rows(*(x[a:b] for x in rows))
        for a, b in ((0, 11), (11, 30))
    ]
    merged, left = parts[0] + parts[1], whole - parts[1]
    for name in ("g_mean", "y_mean", "S", "Q"):
        close(getattr(merged, name), getattr(whole, name).numpy(), 1e-12, f"merged {name}")  # |G|^2 n eps = 1e-13
        close(getattr(left, name), getattr(parts[0], name).numpy(), 1e-12, f"left {name}")
    centred = (problem.G - np.average(problem.G, axis=0, weights=problem.w)) * np.sqrt(problem.w)[:, None]
    close(whole.moments(True)[0], centred.T @ centred, 1e-12, "S")
