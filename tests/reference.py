"""Slow and obvious oracles in float64 numpy: loops, dense matrices, power series, real refits.

They import nothing from carrot.
"""

import itertools
import math
from fractions import Fraction

import numpy as np

Array = np.ndarray


def rng_normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


# ---- graph


def isotropic(P: Array, gh: int, gw: int) -> Array:
    longer = max(gh, gw)
    return np.array([[x * gw / longer, y * gh / longer] for x, y in P])


def graph(H: Array, P: Array, sigma_s: float, sigma_f: float, scale: float | None = None) -> tuple[Array, Array, Array]:
    """W, degree, L by the double loop; scale None: the lower median of pairwise feature distances.

    Its limit where that is 0.
    """
    N = len(H)
    if scale is None:
        distances = sorted(math.dist(H[i], H[j]) for i in range(N) for j in range(i + 1, N))
        scale = distances[(len(distances) - 1) // 2] if distances else 0.0
    W = np.empty((N, N))
    for i in range(N):
        for j in range(N):
            space = math.exp(-(math.dist(P[i], P[j]) ** 2) / (2 * sigma_s**2))
            apart = math.dist(H[i], H[j])
            feature = float(apart == 0.0) if scale == 0.0 else math.exp(-(apart**2) / (2 * (sigma_f * scale) ** 2))
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


def isolated(W: Array, K: int) -> Array:
    """W with K more nodes at the end, each tied to nothing but itself."""
    N = len(W)
    larger = np.zeros((N + K, N + K))
    for i in range(N + K):
        for j in range(N + K):
            if i < N and j < N:
                larger[i, j] = W[i, j]
            elif i == j:
                larger[i, j] = 1.0
    return larger


# ---- readout


def cosines(H: Array, source: Array) -> Array:
    return np.array([sum(h * source) / math.sqrt(sum(h * h) * sum(source * source)) for h in H])


def source_weights(u: Array, tau: float) -> Array:
    """exp(tau u_i) over the sum, told from the largest u so that nothing overflows."""
    numbers = [math.exp(tau * (x - max(u))) for x in u]
    return np.array([x / sum(numbers) for x in numbers])


def with_share(r: Array, share: float, K: int) -> Array:
    """Weights with K global regions at the end that hold ``share`` together."""
    return np.array([(1.0 - share) * x for x in r] + [share / K] * K)


def restricted(r: Array, keep: Array, K: int) -> Array:
    """Weights of what is kept: K global regions, at the end, hold what they held as long as others are there too."""
    N = len(r) - K
    local, whole = (
        [x for x, k in zip(r[:N], keep[:N], strict=True) if k],
        [x for x, k in zip(r[N:], keep[N:], strict=True) if k],
    )
    shares = (sum(r[:N]) if sum(local) > 0 else 0.0, sum(r[N:]) if sum(whole) > 0 else 0.0)
    found = np.zeros(len(r))
    for i, k in enumerate(keep):
        kind, share = (local, shares[0]) if i < N else (whole, shares[1])
        if k and sum(kind) > 0:
            found[i] = r[i] / sum(kind) * share / sum(shares)
    return found


# ---- lifts: phi of every token, written out; random numbers are handed in


def quadratic(H: Array) -> Array:
    """Products h_a h_b for a <= b, row by row; a < b stands for two entries of h h^T, hence sqrt 2."""
    D = H.shape[1]
    return np.array(
        [[h[a] * h[b] * (1.0 if a == b else math.sqrt(2.0)) for a in range(D) for b in range(a, D)] for h in H]
    )


def relu(H: Array, Omega: Array) -> Array:
    D, M = Omega.shape
    phi = np.zeros((len(H), M))
    for i, m in np.ndindex(len(H), M):
        phi[i, m] = math.sqrt(2.0 / M) * max(0.0, sum(Omega[a, m] * H[i, a] for a in range(D)))
    return phi


def fourier(H: Array, Omega: Array) -> Array:
    """A cosine and a sine for each frequency, of the token's direction; a token of zeros has the phase 0."""
    D, F = Omega.shape
    phi = np.zeros((len(H), 2 * F))
    for i, m in np.ndindex(len(H), F):
        length = math.sqrt(sum(x * x for x in H[i]))
        phase = sum(Omega[a, m] * H[i, a] / length for a in range(D)) if length else 0.0
        phi[i, m], phi[i, F + m] = math.sqrt(1.0 / F) * math.cos(phase), math.sqrt(1.0 / F) * math.sin(phase)
    return phi


def tensor_sketch(H: Array, place: Array, sign: Array, M: int) -> Array:
    """Every product h_a h_b, signed, into the bucket that both hashes add up to: h h^T sketched without a transform."""
    D = H.shape[1]
    phi = np.zeros((len(H), M))
    for i, a, b in np.ndindex(len(H), D, D):
        phi[i, (place[0, a] + place[1, b]) % M] += sign[0, a] * sign[1, b] * H[i, a] * H[i, b]
    return phi


def mean_map(phi: Array, pi: Array) -> Array:
    """The kernel mean embedding, term by term."""
    g = np.zeros(phi.shape[1])
    for i in range(len(phi)):
        g = g + pi[i] * phi[i]
    return g


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


def embed_subset(H: Array, W: Array, t: float, keep: Array, r: Array | None = None) -> Array:
    """g of the picture with only the regions ``keep``: the sub-graph built again, r divided by its sum.

    0 when nothing is left, or nothing that r listens to.
    """
    index = np.flatnonzero(keep)
    if len(index) == 0 or (r is not None and sum(r[index]) == 0.0):
        return np.zeros(H.shape[1])
    rest = None if r is None else r[index] / sum(r[index])
    return embed(H[index], W[np.ix_(index, index)], t, rest)


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


def loo_choice(G: Array, Y: Array, lams: list[float], intercept: bool, w: Array) -> tuple[float, float]:
    """The lam of the smallest leave-one-out error by n real refits each, the larger of equal ones; and that error."""
    errors = [float((w[:, None] * (Y - loo(G, Y, lam, intercept, w)) ** 2).sum()) for lam in lams]
    best = max(k for k, e in enumerate(errors) if e <= min(errors) * (1 + 1e-12))
    return lams[best], errors[best] / (w.sum() * Y.shape[1])


def margin(logits: Array, label: int) -> float:
    return float(logits[label] - max(x for c, x in enumerate(logits) if c != label))


def conformal(
    G: Array, labels: Array, C: int, lam: float, intercept: bool, g: Array, w: Array, weight: Array, per_class: bool
) -> Array:
    """p-values of the C labels of one picture: for each n + 1 real refits, each without one of the n + 1."""
    p = np.empty(C)
    for y in range(C):
        everyone = np.append(labels, y)
        left_out = loo(np.vstack([G, g]), np.eye(C)[everyone], lam, intercept, np.append(w, weight[y]))
        found = [margin(*pair) for pair in zip(left_out, everyone, strict=True)]
        among = [m for m, label in zip(found, everyone, strict=True) if not per_class or label == y]
        p[y] = sum(m <= found[-1] + 1e-10 for m in among) / len(among)
    return p


def condition(G: Array, lam: float, intercept: bool, w: Array | None = None) -> float:
    """Condition number of the system that is solved, the squared singular values of G plus lam."""
    w = np.ones(len(G)) if w is None else w
    centre = (w @ G) / w.sum() if intercept else 0.0
    s = np.linalg.svd(np.sqrt(w)[:, None] * (G - centre), compute_uv=False)
    smallest = s[-1] ** 2 if len(G) > G.shape[1] else 0.0
    return float((s[0] ** 2 + lam) / (smallest + lam))


# ---- head in rational numbers: no rounding at all, for tiny problems at tiny penalties


def rational(x: Array) -> list[list[Fraction]]:
    return [[Fraction(float(value)) for value in row] for row in np.atleast_2d(x)]


def rational_solve(K: list[list[Fraction]], B: list[list[Fraction]]) -> list[list[Fraction]]:
    """K^{-1} B by Gauss and Jordan."""
    rows = [k + b for k, b in zip(K, B, strict=True)]
    n = len(rows)
    for i in range(n):
        pivot = next(j for j in range(i, n) if rows[j][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(n):
            if j != i:
                rows[j] = [x - rows[j][i] * y for x, y in zip(rows[j], rows[i], strict=True)]
    return [row[n:] for row in rows]


def rational_system(A: list[list[Fraction]], lam: Fraction, w: list[Fraction]) -> list[list[Fraction]]:
    """sum_i w_i a_i a_i^T + lam I."""
    n, D = len(A), len(A[0])
    return [
        [sum(w[i] * A[i][d] * A[i][e] for i in range(n)) + (lam if d == e else 0) for e in range(D)] for d in range(D)
    ]


def rational_kernel(G: Array, lam: float, w: Array, a: Array, z: Array) -> Array:
    """a^T K^{-1} z, without an intercept."""
    K = rational_system(rational(G), Fraction(float(lam)), [Fraction(float(x)) for x in w])
    left, solved = rational(a), rational_solve(K, [list(column) for column in zip(*rational(z), strict=True)])
    return np.array(
        [[float(sum(x * y[j] for x, y in zip(row, solved, strict=True))) for j in range(len(z))] for row in left]
    )


def rational_fit(G: Array, Y: Array, lam: float, intercept: bool, w: Array) -> tuple[Array, Array, Array]:
    """W*, b and the dual weights alpha; rounded once, at the end."""
    g, y, weights, penalty = rational(G), rational(Y), [Fraction(float(x)) for x in w], Fraction(float(lam))
    total, (n, D), C = sum(weights), G.shape, Y.shape[1]
    zero = Fraction(0)
    gm = [sum(weights[i] * g[i][d] for i in range(n)) / total if intercept else zero for d in range(D)]
    ym = [sum(weights[i] * y[i][c] for i in range(n)) / total if intercept else zero for c in range(C)]
    A = [[x - m for x, m in zip(row, gm, strict=True)] for row in g]
    B = [[x - m for x, m in zip(row, ym, strict=True)] for row in y]
    K = rational_system(A, penalty, weights)
    Q = [[sum(weights[i] * A[i][d] * B[i][c] for i in range(n)) for c in range(C)] for d in range(D)]
    W = rational_solve(K, Q)
    b = [ym[c] - sum(gm[d] * W[d][c] for d in range(D)) for c in range(C)]
    alpha = [
        [weights[i] * (B[i][c] - sum(A[i][d] * W[d][c] for d in range(D))) / penalty for c in range(C)]
        for i in range(n)
    ]
    return tuple(np.array(x, dtype=float) for x in (W, b, alpha))


def flagged_labels(p: Array, y: list[int]) -> list[bool]:
    """Return who is off the diagonal of the confident joint and isn't predicted as labelled, picture by picture."""
    n, C = len(p), len(p[0])
    thresholds = []
    for c in range(C):
        own = [float(p[i][c]) for i in range(n) if y[i] == c]
        thresholds.append(sum(own) / len(own) if own else math.inf)
    flags = []
    for i in range(n):
        row = [float(value) for value in p[i]]
        reached = [c for c in range(C) if row[c] >= thresholds[c] - 1e-12]
        best = max(reached, key=lambda c: row[c]) if reached else y[i]
        flags.append(best != y[i] and any(row[c] > row[y[i]] for c in range(C)))
    return flags


def suspicion(loo: Array, y: list[int], w: Array) -> list[float]:
    """Half of how much farther a picture is from its label's mean than from the nearest other one, picture by picture.

    Distances in the metric of the weighted covariance within classes, plus its mean variance; its own class's mean is
    taken without the picture.
    """
    n, C = len(loo), len(loo[0])

    def mean(c: int, but: int | None = None) -> Array:
        rows = [i for i in range(n) if y[i] == c and i != but]
        return sum(w[i] * loo[i] for i in rows) / sum(w[i] for i in rows)

    S = sum(w[i] * np.outer(loo[i] - mean(y[i]), loo[i] - mean(y[i])) for i in range(n)) / sum(w)
    metric = np.linalg.inv(S + np.trace(S) / C * np.eye(C))

    def distance(i: int, c: int) -> float:
        apart = loo[i] - mean(c, i if c == y[i] else None)
        return float(apart @ metric @ apart)

    return [(distance(i, y[i]) - min(distance(i, c) for c in set(y) - {y[i]})) / 2 for i in range(n)]


# ---- FunnyBirds


def sufficient_sets(variants: list[tuple[int, ...]], c: int) -> list[frozenset[int]]:
    """Every set of parts that no other class shares, then those that hold no other of them."""
    K = len(variants[c])
    sufficient = []
    for size in range(1, K + 1):
        for parts in itertools.combinations(range(K), size):
            alike = [k for k, row in enumerate(variants) if all(row[p] == variants[c][p] for p in parts)]
            if alike == [c]:
                sufficient.append(frozenset(parts))
    return [parts for parts in sufficient if not any(other < parts for other in sufficient)]


def dilated_sum(attribution: Array, mask: Array) -> float:
    """Sum of a map over the pixels that are at most two rows and columns from the mask."""
    h, w = mask.shape
    total = 0.0
    for i in range(h):
        for j in range(w):
            if mask[max(0, i - 2) : i + 3, max(0, j - 2) : j + 3].any():
                total += attribution[i, j]
    return total


def funnybirds(
    logits, importance, labels: list[int], parts: list[str], objects, visible, variants: list[tuple[int, ...]]
) -> dict[str, object]:
    """Every score, one after the other and threshold by threshold, as the protocol is published.

    logits(picture, removed) -> row; importance(picture, class) -> ({thing: number}, sum of the map); objects(picture)
    -> names; visible(picture) -> names of what shows a pixel: nothing else counts, but in "SD, all".
    """
    pictures = range(len(labels))
    thresholds = np.linspace(0.01, 0.5, 80)
    curves = {name: np.zeros(80) for name in ("CSDC", "PC", "DC", "D")}
    counts = dict.fromkeys(curves, 0)
    for i in pictures:
        y, f = labels[i], logits(i, [])
        top = int(np.argmax(f))

        def important(c: int, tau: float, i: int = i) -> set[str]:
            values, total = importance(i, c)
            return {name for name, a in values.items() if a > tau * total and name in visible(i)}

        irrelevant = []
        for name in [*parts, *objects(i)]:
            fall = f[y] - logits(i, [name])[y]
            if name in visible(i) and (abs(fall) < 0.05 * abs(f[y]) or fall < 0):
                irrelevant.append(name)
        counts["CSDC"] += top == y
        counts["PC"] += 1
        counts["DC"] += 1
        counts["D"] += bool(irrelevant)
        for k, tau in enumerate(thresholds):
            if top == y:
                P = {parts.index(name) for name in important(y, tau) if name in parts}
                curves["CSDC"][k] += max(len(P & S) / len(S) for S in sufficient_sets(variants, y))
            P = {name for name in important(top, tau) if name in parts}
            curves["PC"][k] += np.argmax(logits(i, [name for name in parts if name not in P])) == top
            curves["DC"][k] += np.argmax(logits(i, list(P))) != top
            if irrelevant:
                curves["D"][k] += 1 - len(important(y, tau) & set(irrelevant)) / len(irrelevant)
    means = {name: curve / counts[name] for name, curve in curves.items()}
    goal = (means["CSDC"] + means["PC"] + means["DC"]) / 3 + means["D"]
    best = int(np.argmax(goal))
    found: dict[str, object] = {name: curve[best] for name, curve in means.items()}
    found["tau"], found["Com"] = thresholds[best], goal[best] / 2
    for name, everything in (("SD", False), ("SD, all", True)):
        correlations = []
        for i in pictures:
            names = [part for part in parts if everything or part in visible(i)]
            a = [importance(i, labels[i])[0][part] for part in names]
            fall = [logits(i, [])[labels[i]] - logits(i, [part])[labels[i]] for part in names]
            if len(set(a)) > 1 and len(set(fall)) > 1:
                correlations.append(0.5 + 0.5 * spearman(a, fall))
        found[name] = sum(correlations) / len(correlations) if correlations else None
    hits = []
    for i in pictures:
        y = labels[i]
        shared = {c: {p for p in range(len(parts)) if row[p] == variants[y][p]} for c, row in enumerate(variants)}
        twos = [c for c in range(len(variants)) if c != y and len(shared[c]) == 2]
        pairs = [(a, b) for a in twos for b in twos if a < b and not shared[a] & shared[b]]
        if not pairs:
            continue
        a, b = pairs[0]
        A, B = ([parts[p] for p in shared[c]] for c in (a, b))
        without_A, without_B = logits(i, A), logits(i, B)
        if without_A[a] < without_B[a] and without_B[b] < without_A[b]:
            of_a, of_b = importance(i, a)[0], importance(i, b)[0]
            hits.append(sum(of_a[name] for name in A) > sum(of_b[name] for name in A))
            hits.append(sum(of_b[name] for name in B) > sum(of_a[name] for name in B))
    found["TS"] = sum(hits) / len(hits) if hits else None
    shown = needed = right = 0
    for i in pictures:
        y, f = labels[i], logits(i, [])
        right += np.argmax(f) == y
        for name in objects(i):
            if name in visible(i):
                shown += 1
                needed += f[y] - logits(i, [name])[y] >= 0.05 * abs(f[y]) and f[y] > logits(i, [name])[y]
    found["BI"], found["Acc"] = 1 - needed / shown, right / len(labels)
    return found


def spearman(a: list[float], b: list[float]) -> float:
    """Correlation of ranks; equal numbers share the mean of theirs."""

    def ranks(v: list[float]) -> Array:
        return np.array([sum(u < x for u in v) + (sum(u == x for u in v) + 1) / 2 for x in v])

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])
