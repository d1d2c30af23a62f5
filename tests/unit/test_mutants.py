# ruff: noqa: E501
# In the table of mutants each text stands beside what the mutant has in its place: one line, however wide.
"""Damaged copies of the theory that the checks must reject: if one passes, "exact" is only a word.

Each mutant is one edit of the source text, imported as a package of its own and put through ``tests.contract``.
"""

import importlib
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests import contract

ROOT = Path(__file__).resolve().parents[2] / "carrot"
RIDGE = (
    *("blocks", "targets", "statistics", "rows", "gram", "factor", "systems", "squares", "loo", "edited", "later"),
    *("removed", "settled", "vouching", "restored", "solution", "logit", "replacement", "streamed", "conformal"),
    *("questions", "pool", "edit", "subsets", "best", "again", "passes", "asked"),
)
MODULES = [
    *("errors", "utils", "_ambient", "_choices"),
    *(f"_display/{name}" for name in ("brief", "extras", "html", "graphs")),
    *("engine/__init__",),
    *("regions", "graph", "laplacian", "operator", "readout", "lift"),
    *(f"_ridge/{name}" for name in RIDGE),
    *("head", "removal", "influence", "edits/effects", "edits/flips", "attribution"),
    *("embedding/trace", "explanation/parts"),
]
COUNTER = itertools.count()
F32, F64 = torch.float32, torch.float64
LIFTED = [("quadratic", 20, 3.0, 0.3), ("relu:12", 8, None, None), ("identity", 20, 3.0, None)]

# name: (module, text in it, what the mutant has there)
MUTANTS = {
    # the graph
    "unnormalised L": (
        "graph",
        "torch.eye(self.W.shape[-1], dtype=self.W.dtype, device=self.W.device) - self.S",
        "torch.diag_embed(self.degree) - self.W",
    ),
    "random-walk L": ("graph", "root[..., :, None] * self.W * root[..., None, :]", "self.W / self.degree[..., :, None]"),
    "no self-loops": ("graph", "degree = W.sum(dim=-1)", "W.diagonal(dim1=-2, dim2=-1).zero_(); degree = W.sum(dim=-1)"),
    "sigma_s without the 2": ("graph", "to(W.dtype) / self.sigma_spatial", "to(W.dtype) * 2.0**0.5 / self.sigma_spatial"),
    "sigma_f without the 2": ("graph", "D2.div_((sigma * sigma * m2)", "D2.div_((0.5 * sigma * sigma * m2)"),
    "sigma_f not squared": ("graph", "D2.div_((sigma * sigma * m2)", "D2.div_((sigma * m2)"),
    "upper median": ("graph", "rank = N + 2 * ((N * (N - 1) // 2 - 1) // 2)", "rank = N + 2 * (N * (N - 1) // 4)"),
    "median with the diagonal": ("graph", "rank = N + 2 * ((N * (N - 1) // 2 - 1) // 2)", "rank = N * N // 2"),
    "duplicates left to rounding": (
        "graph",
        "_is_coarse(D2, min(1.0, sigma * sigma) * m2) | (m2 <= rounding)",
        "m2 <= rounding",
    ),
    "a median of 0 joins what is unlike": (
        "graph",
        "return D2.div_((sigma * sigma * m2)",
        "return D2.mul_((m2 > 1e-9)[..., None, None]).div_((sigma * sigma * m2)",
    ),
    "a median of 0 passed over": (
        "graph",
        "torch.maximum(median_pairwise(differences)",
        "torch.maximum(differences.amax(dim=(-2, -1))",
    ),
    "stretched space": ("graph", "regions.isotropic_positions", "regions.positions"),
    "a global node joined to the others": ("graph", "if regions.num_global:", "if False:"),
    "a global node without its self-loop": ("graph", "(0, K), value=1.0)", "(0, K), value=2.0)"),
    "global regions first": ("regions", "[self.features, tokens.to(self.features)]", "[tokens.to(self.features), self.features]"),
    "features only": ("graph", "W.add_(_between_places(P)).mul_(-0.5)", "W.mul_(-0.5)"),
    # the operator
    "t doubled": ("operator", "self.t = float(t)", "self.t = 2.0 * float(t)"),
    "identity": ("operator", "self.t = float(t)", "self.t = 0.0"),
    "heat flows backwards": ("operator", "return torch.exp(-self.t * eigenvalues)", "return torch.exp(self.t * eigenvalues)"),
    "matrix_exp of +tL": ("operator", "matrix_exp(-self.t * L)", "matrix_exp(self.t * L)"),
    "one Euler step": (
        "operator",
        "torch.linalg.matrix_exp(-self.t * L)",
        "(torch.eye(L.shape[-1], dtype=L.dtype) - self.t * L)",
    ),
    "c_0 not halved": ("laplacian", "c[0] /= 2.0", "c[0] /= 1.0"),
    "Bessel at t": ("laplacian", "ive(np.arange(reach), t / 2.0)", "ive(np.arange(reach), t)"),
    "wrong recurrence": ("laplacian", "alpha=2.0).sub_(previous)", "alpha=1.0).sub_(previous)"),
    "series cut early": ("laplacian", "return tuple(c[: K + 1])", "return tuple(c[: max(1, K - 2)])"),
    "plain truncation": ("operator", "math.exp(-self.t) * X + torch.matmul(U, gain", "torch.matmul(U, gain"),
    "truncation bound too small": (
        "operator",
        "spectrum[..., [self.rank, -1]]",
        "spectrum[..., [min(self.rank + 1, spectrum.shape[-1] - 1), -1]]",
    ),
    "degrees of the whole graph": ("operator", "torch.matmul(W, M).clamp_(min=1.0)", "torch.matmul(W, torch.ones_like(M)).clamp_(min=1.0)"),
    "mean over all regions": ("operator", "torch.where(total > 0, total, torch.ones_like(total))", "N"),
    "deleted nodes conduct": ("operator", "return torch.matmul(W, Rho * X).mul_(Rho)", "return torch.matmul(W, Rho * X).mul_(Rho.amax())"),
    "any L taken for ours": ("laplacian", "        S_ii = 1.0 - self", "        return True\n        S_ii = 1.0 - self"),
    "any graph taken for a kernel": ("laplacian", "        if self.is_kernel:", "        if True:"),
    "half the time on the half": ("laplacian", "[2.0 * t for t in times]", "list(times)"),
    "an L without symmetry": ("laplacian", "require_symmetric(\"L\", L)", "pass"),
    "eigenvalues below 0 cut off": ("operator", "eigenvalues.where(eigenvalues.abs() > rounding, 0.0)", "eigenvalues.clamp(min=0.0)"),
    "a bound for [0, 1] alone": ("operator", "return ends.abs().amax(dim=-1)", "return ends[..., 0]"),
    # the readout
    "sum for mean": ("readout", "torch.full((N,), 1.0 / N, dtype=dtype)", "torch.ones((N,), dtype=dtype)"),
    "tau ignored": ("readout", "torch.softmax(self.tau * (u", "torch.softmax(1.0 * (u"),
    "source not renormalised": ("readout", "keepdim=True)), dim=-1)  #", "keepdim=True)), dim=-1).sqrt()  #"),
    "source weights of the whole batch": ("readout", "keepdim=True)), dim=-1)  #", "keepdim=True)).flatten(), dim=-1).reshape(u.shape)  #"),
    "global share not taken off the patches": ("readout", "(1.0 - self.global_share) * r", "r"),
    "global share to each": ("readout", "self.global_share / num_global", "self.global_share"),
    "inner product for cosine": ("readout", "for x in promoted(H, source))", "for x in promoted(source, source)); directions = H"),
    "removal with another readout": ("operator", "start = M * r.unsqueeze(-1)", "start = M * torch.ones_like(r).unsqueeze(-1)"),
    # the lift
    "no sqrt 2": ("lift", "torch.where(i == j, 1.0, 2.0)", "torch.where(i == j, 1.0, 1.0)"),
    "sqrt 2 in float32": ("lift", ".to(torch.float64).sqrt()", ".sqrt().to(torch.float64)"),
    "vech without off-diagonals": ("lift", "torch.where(i == j, 1.0, 2.0)", "torch.where(i == j, 1.0, 0.0)"),
    "pi ignored": ("lift", "embed(self.features(h), p)", "embed(self.features(h), torch.full_like(p, 1.0 / N))"),
    "pi ignored (quadratic)": ("lift", "H.mT @ (pi.unsqueeze(-1) * H)", "H.mT @ H / H.shape[-2]"),
    "pi rooted (quadratic)": ("lift", "H.mT @ (pi.unsqueeze(-1) * H)", "H.mT @ (pi.abs().sqrt().unsqueeze(-1) * H)"),
    "W_c doubled off its diagonal": ("lift", "scores.append(((H", "W = W + W.triu(1).mT; scores.append(((H"),
    "W_c without sqrt 2": ("lift", "(block * root.unsqueeze(-1)).mT", "block.mT"),
    "linear kernel for quadratic": ("lift", "(A @ B.mT).square()", "(A @ B.mT)"),
    "kernel of bare tokens": ("lift", "self.features(A) @ self.features(B).mT", "widen(A)[0] @ widen(B)[0].mT"),
    "scores as they are pooled": ("lift", "return pi.unsqueeze(-1) * self.scores(H, W_star)", "return self.scores(H, W_star)"),
    "relu without its scale": ("lift", ".relu_() * math.sqrt(2.0 / self.width)", ".relu_()"),
    "no relu": ("lift", ".relu_() *", "*"),
    "fourier without sines": ("lift", "torch.cat([phase.cos(), phase.sin()], dim=-1)", "torch.cat([phase.cos(), phase.cos()], dim=-1)"),
    "fourier of lengths too": ("lift", "directions_of(H) @ Omega", "H @ Omega"),
    "fourier of half the gamma": ("lift", "math.sqrt(2.0 * self.gamma)", "math.sqrt(self.gamma)"),
    "sketch by correlation": ("lift", "spectra[0] * spectra[1]", "spectra[0] * spectra[1].conj()"),
    "sketch with one hash": ("lift", "spectra[0] * spectra[1]", "spectra[0] * spectra[0]"),
    "sketch without signs": ("lift", "sign = 2.0 * torch.randint(2,", "sign = 2.0 + 0.0 * torch.randint(2,"),
    "seed ignored": ("lift", "generator=torch.Generator().manual_seed(seed))", "generator=torch.Generator().manual_seed(0))"),
    "lifted in float32": ("lift", "return (H @ _normal(", "H = H.float().double(); return (H @ _normal("),
    # the head
    "lambda times n (primal)": ("systems", "if fit_intercept else S, lam)", "if fit_intercept else S, lam * statistics.n)"),
    "lambda times n (dual)": ("systems", "cholesky(M, lam)", "cholesky(M, lam * len(M))"),
    "means not taken out": ("systems", "statistics.moments(centred=fit_intercept)", "statistics.moments(centred=False)"),
    "bias forgotten": ("solution", "W_star.shape[1]) + self.bias", "W_star.shape[1])"),
    "weights ignored": ("blocks", "if bool((w == 1.0).all()) else", "if True else"),
    "weights not rooted (dual)": ("gram", "root = w.sqrt()", "root = w"),
    "float32 solve": ("systems", "self.solved_for(Q)", "solve_alike(self._factor.float(), Q.float()).double()"),
    "duals without 1 / lam": ("systems", "(w / self._lam).unsqueeze(-1)", "w.unsqueeze(-1)"),
    "duals that cancel": ("systems", "alpha += w.unsqueeze(-1) * times(", "times("),
    "duals refined without weights": ("systems", "alpha += w.unsqueeze(-1) * times(", "alpha += times("),
    "duals that don't sum to 0": ("systems", "alpha -= self._shift * w.unsqueeze(-1) * alpha.sum(dim=0)", "pass"),
    "kernel that cancels (dual)": ("systems", "solved += self._transposed(", "self._transposed("),
    "leave-one-out is the residual": ("solution", "self.Y - self.residual / self.slack.unsqueeze(-1)", "self.Y - self.residual"),
    "leave-one-out the wrong way": ("solution", "self.Y - self.residual / self", "self.Y + self.residual / self"),
    "leverage without the mean (primal)": (
        "systems",
        "(squares + self._shift)",
        "squares",
    ),
    "leverage without the mean (dual)": ("systems", ".diagonal() - self._v_share)", ".diagonal())"),
    "path without the mean (tall)": ("loo", "1.0 - self.shift * w - (Z", "1.0 - (Z"),
    "path without the mean (wide)": ("loo", "lam * (spread[:, j] - v[block].square() / (c + lam))", "lam * spread[:, j]"),
    "last block dropped": ("blocks", "range(0, length, step)", "range(0, length - step + 1, step)"),
    "blocks overlap": ("blocks", "min(start + step, length)", "min(start + step + 1, length)"),
    "strips overlap": ("blocks", "min(start + lines, length)", "min(start + lines + 1, length)"),
    "lower triangle not mirrored": ("blocks", "total[strip.stop :, strip] = total[strip, strip.stop :].mT", "pass"),
    "centred in float32": (
        "blocks",
        "return X if mean is None else X.sub_(mean[columns])",
        "return X if mean is None else (block - mean[columns].to(G.dtype)).to(torch.float64)",
    ),
    "leave-one-out error of the last block": ("loo", "total += self.sums(", "total = self.sums("),
    "leave-one-out error of the last group": ("loo", "total += sums", "total = sums"),
    "a picture alone in a direction left out of the path": ("loo", "total[0, j] += self.rows.w[i]", "total[0, j] += 0.0"),
    "the best without weights": ("best", "rows.w / system.slack", "1.0 / system.slack"),
    "the best of the last group": ("best", "mine.take(theirs.indices, theirs.values)", "mine.values, mine.indices = theirs.values, theirs.indices"),
    "the best by other pictures' weights": ("best", "mul_(self.scale[own])", "mul_(self.scale[: len(A)])"),
    "the best without the intercept": ("best", "g.new_tensor(head.shift)", "g.new_tensor(0.0)"),
    "groups overlap": ("passes", "min(start + step, n)", "min(start + step + 1, n)"),
    "sums of the last group": ("passes", "tuple(a.add_(b) for a, b", "tuple(b for a, b"),
    "a group's first weights": ("rows", "self.w[some])", "self.w[: some.stop - some.start])"),
    "whitened by the diagonal alone": ("factor", "[-(inverse @ lines", "[0.0 * (inverse @ lines"),
    "screened by leverage, not its square": ("loo", "slack.square().reciprocal()", "slack.reciprocal()"),
    "partial fractions with the other sign": ("squares", "addmm_(Z, self.N.mT", "addmm_(Z, self.N"),
    "a direction without itself": ("squares", "(Z * self.M)", "(0.0 * Z)"),
    "close directions forgotten": ("squares", "self.near] @ self.off", "self.near] @ (0.0 * self.off)"),
    "inner products around the old mean": ("gram", "if self.fit_intercept:\n            p", "if False:\n            p"),
    "inner products of others": ("gram", "self.N[stay.unsqueeze(-1), stay]", "self.N[: len(stay), : len(stay)]"),
    "border around another point": ("gram", "new = rows.G[old:].to(torch.float64) - self.c", "new = rows.G[old:].to(torch.float64)"),
    "border on one side": ("gram", "N[old:, :old] = N[:old, old:].mT", "N[old:, :old] = 0.0"),
    "inner products never afresh": ("gram", "return self if around_c <= DIGIT * (around_c - step) else", "return self if True else"),
    "moments never afresh": ("systems", "return None if left_over.is_rounded(rows.Y.reach) else", "return None if False else"),
    "sums of a class by the weight, not at all": ("statistics", "A.mul_(root[block].unsqueeze(-1))", "A"),
    "labels without the others' means": ("targets", "((1.0 - mean).square() + others)", "(1.0 - mean).square()"),
    "labels of the first rows": ("targets", "T[self.values[rows]] if", "T[self.values[: rows.stop - rows.start]] if"),
    "labels' residuals the wrong way": ("targets", "X[here] -= 1.0", "X[here] += 1.0"),
    "leave-one-out by blocks, of residuals": ("streamed", "block).div_(self.slack[own].unsqueeze(-1))", "block)"),
    "leave-one-out by blocks, without weights": ("streamed", "share = (head.lam / rows.w)", "share = (0.0 * rows.w + head.lam)"),
    "leave-one-out by blocks, alone in a direction": ("streamed", "wrong[i - own.start] = error", "_ = error"),
    "removed: means of before": ("removed", "base.g_mean - moved if", "base.g_mean if"),
    "removed: each by itself (dual)": ("removed", "torch.linalg.lu_factor(Q[gone])", "torch.linalg.lu_factor(Q[gone].diagonal().diag())"),
    "removed: each by itself (primal)": ("removed", "root.unsqueeze(-1) * k * root", "(root.unsqueeze(-1) * k * root).diagonal().diag()"),
    "removed: without weights (primal)": ("removed", "return solved * root,", "return solved,"),
    "removed: without weights (dual)": ("removed", "share = (old.w / self._lam)", "share = (0.0 * old.w + 1.0 / self._lam)"),
    "removed: the last alone": ("removed", "torch.cat([self.gone, self.stay[gone]])", "self.stay[gone]"),
    "removed: others than were asked": ("removed", "torch.cat([self.gone, self.stay[gone]])", "torch.cat([self.gone, gone])"),
    "removed at any cost (primal)": ("removed", "if not float(s.min()) >= LEFT:", "if False:"),
    "removed at any cost (dual)": ("removed", "if not float(around) >= LEFT * float(w @ distances):", "if False:"),
    "removed, however large their targets": ("removed", "reach < LEFT * rows", "reach < 0.0 * rows"),
    "means merged without their distance": ("statistics", "share = self.weight * other_weight / weight", "share = 0.0"),
    # attribution
    "node map of undiffused scores": ("attribution", "scores = operator.forward(scores, graph)", "pass"),
    "node map with uniform weights": ("attribution", "share = r.to(scores).expand(pi.shape)", "pass"),
    "token map with uniform weights": ("attribution", "share = pi  #", "share = torch.ones_like(pi) / pi.shape[-1]  #"),
    "origin ignored": ("attribution", "if origin is None:", "if True:"),
    "origin in equal shares": ("attribution", "(share / share.sum(dim=-1, keepdim=True))", "torch.full_like(share, 1.0 / share.shape[-1])"),
    "node energy of bare tokens": ("attribution", "lift.kernel(H, H)", "IDENTITY.kernel(H, H)"),
    "pairs by the bare inner product": ("attribution", "lift.kernel(H_test, H_train", "IDENTITY.kernel(H_test, H_train"),
    "pairs: origin ignored": ("attribution", "if origin is not None:", "if False:"),
    "pairs: origin on one side": ("attribution", " - lift.scores(H_train, o).squeeze(-1) / total\n", "\n"),
    "pairs: origin taken off twice": ("attribution", "k = k + o.square().sum() / (total * totals)", "pass"),
    "energy without the half": ("attribution", "return 0.5 * (degree * norms", "return 1.0 * (degree * norms"),
    "energy unnormalised": ("attribution", "F = H * degree.rsqrt().unsqueeze(-1)", "F = H"),
    "removal without leverage": ("influence", "(head.residual / head.slack.unsqueeze(-1))\n", "head.residual\n"),
    "the residuals of before": ("influence", "residual = residual - head.smoother(head.G[S], U) @ change", "pass"),
    "group as a sum": (
        "influence",
        "torch.linalg.solve(inside, residual)",
        "(residual / head.slack[S].unsqueeze(-1))",
    ),
    "group that cancels off the diagonal": (
        "systems",
        "return self._lam * (inverse - torch.outer(v[at], v[rows])) * root[rows] / root[at].unsqueeze(-1)",
        "return self._lam * (inverse - torch.outer(v[at], v[rows]))",
    ),
    "group never by a fit": ("vouching", "<= 1.0 / ALONE", "<= float('inf')"),
    "targets that are gone not remembered": ("statistics", "reach=max(self.reach, other.reach)", "reach=0.0"),
    "relabelling the wrong way": ("influence", "- head._need_rows().Y.row", "+ head._need_rows().Y.row"),
    "replacement as delete and add apart": ("influence", "cross = k_old(g_new)", "cross = torch.zeros_like(k_old(g_new))"),
    "edits: the residuals of before": ("pool", "missed = missed + torch", "missed = missed + 0.0 * torch"),
    "edits: a relabelled picture that doesn't see itself": ("pool", "torch.where(itself, slack[V].unsqueeze(-2), -phi)", "-phi"),
    "edits: a weight taken away as if all of it": ("pool", "down = -slack - ratio / (1.0 - ratio).where(taken, 1.0)", "down = -slack"),
    "edits: a weight given as if added anew": ("pool", "(1.0 - slack) + 1.0 / (ratio - 1.0)", "1.0 + 1.0 / (ratio - 1.0)"),
    "edits: each of a group alone": ("pool", "M = among[:, :u, :u] * (", "M = 0.0 * among[:, :u, :u] * ("),
    "edits: what comes in without the constant of k": ("pool", "@ self.solved.mT + self.head.shift", "@ self.solved.mT + 0.0 * self.head.shift"),
    "edits: what comes in, not knowing what goes": ("pool", "found[some, :, new], found[some, new, :] = cross, cross.mT", "pass"),
    "edits: scaled once": ("pool", "x * (tau / root).unsqueeze(-1)", "x / root.unsqueeze(-1)"),
    "edits never by a fit": ("pool", "failed = ~(torch.linalg", "failed = (info > 10**9) & ~(torch.linalg"),
    "edits: pairs without weights": ("pool", ".mul_(self._root.unsqueeze(-1))\n\n    @cached_property\n    def _solved_for", "\n\n    @cached_property\n    def _solved_for"),
    "edits: another's question": ("pool", "beta[:, 0, which]", "beta[:, 0, which.flip(0)]"),
    "edits: a contrast that adds": ("questions", "one_hot[0] - one_hot[1]", "one_hot[0] + one_hot[1]"),
    "edits: added pictures of weight 1": ("edit", 'w += [require_positive("add", weight) for weight in counts]', "w += [1.0 for _ in counts]"),
    "flips: bounded by what each does alone": ("subsets", "products + 0.5 * rho * (tau * A + B / tau)", "products + 0.0 * tau"),
    "flips: a bound of the wrong side": ("subsets", "products + 0.5 * rho", "products - 0.5 * rho"),
    "flips: pairs that don't know of each other": ("subsets", "(alone.unsqueeze(-1) + alone + E * (cross + cross.mT)) / room", "alone.unsqueeze(-1) + alone"),
    "flips: the rest as if nothing were out": ("subsets", "inner = torch.addr(E, u, u)", "inner = 1.0 * E"),
    "flips: nothing less is needed": ("subsets", "left = need - float(a[i] * b[i])", "left = need"),
    "flips: without weights": ("flips", "residual = head.residual[:, c : c + 1]", "residual = flips._root.reciprocal().unsqueeze(-1) * head.residual[:, c : c + 1]"),
    "flips: one rival only": ("flips", "torch.tensor([r for r in range(len(logits)) if r != c]", "torch.tensor([r for r in range(len(logits)) if r != c][-1:]"),
    "flips: labels that only take away": ("flips", "+ (label == r).double())", ")"),
    "pairs without the training weights": ("attribution", "pi_test[..., :, None, None] * pi_train * k", "pi_test[..., :, None, None] * k"),
    "removal of bare tokens": ("removal", "lift.scores(H, head.W_star)", "IDENTITY.scores(H, head.W_star[: H.shape[-1]])"),
    "removal as if the mean": ("removal", "self.readout.weights(keep.shape[-2])", "torch.ones(keep.shape[-2], dtype=torch.float64)"),
    "drops with the wrong sign": ("removal", "v[..., self.N :, :] - v[..., : self.N, :]", "v[..., : self.N, :] - v[..., self.N :, :]"),
    "curve off by one": ("removal", "(order).unsqueeze(-1) >= torch", "(order).unsqueeze(-1) > torch"),
    # kept heads, and one class against another
    "another in a picture's place, the old one's part forgotten": ("replacement", " - k_old.unsqueeze(-1) * (wq * R - wc * R_new)", ""),
    "another in a picture's place, not knowing the old one": ("replacement", "wc, wq = w * self.cross", "wc, wq = 0.0 * self.cross"),
    "another in a picture's place, of weight 1": ("replacement", "1.0 + w * self.own", "1.0 + self.own"),
    "another in a picture's place, without leverage": ("replacement", "wc * R + s * R_new", "wc * R + R_new"),
    "another in a picture's place, the old one's residual": ("replacement", "logit.Y[self.index] - logits_new", "logit.residual[self.index] + 0.0 * logits_new"),
    "another in a picture's place, from the origin": ("replacement", "solved * (z - head.g_mean)", "solved * z"),
    "another in a picture's place, the first picture's": ("replacement", "head.G[index[some]]", "head.G[index[:1]]"),
    "a relabelled picture's column only of itself": ("edited", "torch.outer(self._column(k), change)", "torch.outer(self._column(k) * (self.Y[:, 0] == self.Y[k, 0]), change)"),
    "leave-one-out after leaving out, slack of before": ("edited", "slack = self.slack - q * self._row(k, q) / q[k]", "slack = self.slack.clone()"),
    "leave-one-out after leaving out, without weights": ("edited", "return q * w / w[k]", "return q * 1.0"),
    "the column of before the edits": ("edited", "q = q - q_d * (q[d] / q_d[d])", "pass"),
    "two left out, the second's residual alone": ("edited", "(s * R - q * R[k])", "(s * R)"),
    "two left out, each alone": ("edited", "pair = self.slack - row * q / s", "pair = self.slack"),
    "a new class with another's residuals": ("edited", "torch.cat([self.residual, zero], dim=1)", "torch.cat([self.residual, self.residual[:, :k]], dim=1)"),
    "a new class that all are of": ("edited", "Y=torch.cat([self.Y, zero], dim=1)", "Y=torch.cat([self.Y, zero + 1.0], dim=1)"),
    "conformal: the residuals of before": ("conformal", "base.addr_(joined.a[some], joined.f, alpha=-1.0)", "pass"),
    "conformal: the slack of before": ("conformal", "head.slack + c * head.sample_weight * k.square()", "head.slack.clone()"),
    "conformal: a picture that counts 1": ("conformal", "c = self.head, w / (1.0 + w * kappa)", "c = self.head, 1.0 / (1.0 + kappa)"),
    "conformal: the candidate's column stays": ("conformal", "a = c * k / slack\n", "a = 0.0 * k\n"),
    "conformal: the picture itself not counted": ("conformal", "counts = margins(f), torch.ones_like(f)", "counts = margins(f), torch.zeros_like(f)"),
    "conformal: by class, of all classes": ("conformal", "found.index_add_(0, own[:, 0], is_below[:, 0].to(found))", "found += is_below.sum()"),
    "conformal: never without who is alone": ("conformal", "if float(slack[i]) < ALONE:", "if False:"),
    "conformal: best other, the candidate among them": ("conformal", "torch.maximum(rest, others + a)", "torch.maximum(first.expand_as(base), others + a)"),
    "lam again: errors of the others as they were": ("squares", "(R @ R_i.mT).mul_(a).mul_(-2.0).add_(apart)", "(R @ R_i.mT).mul_(0.0)"),
    "lam again: squares that cancel": ("squares", "found < LEFT * (apart + size)", "found < 0.0 * (apart + size)"),
    "lam again: slack of before": ("again", "d = q.unsqueeze(-1) - a * Q\n                own", "d = q.unsqueeze(-1) - 0.0 * Q\n                own"),
    "lam again: the picture counted too": ("again", ".masked_fill_(own | alone, 0.0)", ".masked_fill_(alone, 0.0)"),
    "lam again: the first of equal penalties": ("again", "ties.long().cumsum(dim=1).argmax(dim=1)", "ties.long().argmax(dim=1)"),
    "lam again: copies never by a fit": ("again", "ask = unsure & (found <= least * (1.0 + TIE))", "ask = unsure & False"),
    "lam again: weighed with the picture": ("again", "others = (rows.w.sum() - rows.w)", "others = (rows.w.sum() - 0.0 * rows.w)"),
    "lam again: ruled out by what all pictures say": ("again", " - size.sqrt() * off / q.min()", ""),
    "lam again: accuracy that nothing moves": ("again", "maybe = ~(2.0 * moved < apart.unsqueeze(-1)) & ~own", "maybe = own & False"),
    "lam again: rows of Q without weights": ("again", "a * Q * w.unsqueeze(-1) / w[i]", "a * Q"),
    "a label settled, its own square forgotten": ("settled", "+ (share @ q) * d.square().sum()", ""),
    "a label settled, without weights": ("settled", "slack = self.slack - q * (q * self.w / self.w[i]) / s", "slack = self.slack - q * q / s"),
    "a picture left out, slack of before": ("settled", "slack = self.slack - q * (q * self.w / self.w[i]) / s", "slack = self.slack.clone()"),
    "a picture relabelled, answers of before": ("settled", "moved = (q.abs() * d.abs().max() / self.slack >= self.lead)", "moved = (q.abs() < 0)"),
    "a picture left out, answers of before": ("settled", "moved = ((bound >= self.lead) & there)", "moved = ((bound < 0) & there)"),
    "a group left out one at a time": ("vouching", "torch.linalg.solve(Q, self._R[at])", "self._R[at] / self._Q.diagonal()[at].unsqueeze(-1)"),
    "Q of a group without its signs": ("systems", "inverse[rows.unsqueeze(-1), rows], rows", "inverse[rows.unsqueeze(-1), rows].abs(), rows"),
    "ties of Q without its diagonal": ("vouching", ".sqrt() / root / root[:, None]", ".sqrt()"),
    "copies left out never by a fit": ("edited", "if bool((slack < self._least)[stay].any()):", "if False:"),
    "a kernel without its constant": ("solution", "if self.fit_intercept else 0.0", "if False else 0.0"),
    "weights in another layout than a file's": ("systems", "self.solved_for(Q).contiguous()", "self.solved_for(Q)"),
    "targets that move twice": ("systems", "self.statistics - before + after", "self.statistics - before + after + after"),
    "targets that do not move": ("systems", "self.statistics - before + after", "self.statistics"),
    "the targets of the next picture": ("head", "put(changed, new)", "put(changed.flip(0), new)"),
    "a restored head that drops the weights": (
        "restored",
        "solve(self.rows, self.lam, self.fit_intercept)",
        "solve(Rows(*self.rows[:2], self.rows.w.clamp(max=1.0)), self.lam, self.fit_intercept)",
    ),
    "a restored head without its intercept": (
        "restored",
        "solve(self.rows, self.lam, self.fit_intercept)",
        "solve(self.rows, self.lam, False)",
    ),
    "a restored head at another lam": (
        "restored",
        "solve(self.rows, self.lam, self.fit_intercept)",
        "solve(self.rows, 1.001 * self.lam, self.fit_intercept)",
    ),
    "a state that was rounded": ("restored", "{name: own[name] for name in", "{name: own[name].float().double() for name in"),
    "a contrast that adds": ("logit", "else one - per_class", "else one + per_class"),
    "residuals without weights": ("logit", "self.head.lam / self.head.sample_weight", "0.0 * self.head.sample_weight + self.head.lam"),
    "a contrast without the other class's labels": ("parts", "label=smoother * logit.Y[:, 0]", "label=smoother * head.Y[:, logit.target]"),
    "removal without leave-one-out": ("parts", "logit.residual[:, 0] / head.slack", "logit.residual[:, 0]"),
    "dual of rooted weights": ("systems", "products.mT / self._root", "products.mT"),
    "dual from the origin": ("systems", "columns = torch.cat([(g - self.g_mean)", "columns = torch.cat([(g - 0.0 * self.g_mean)"),
    "dual of another question": ("parts", "dual=products * logit.alpha[:, 0]", "dual=products * head.alpha[:, logit.target]"),
    "pairs of the first class only": ("parts", "logit.alpha[i : i + 1]", "logit.head.alpha[i : i + 1, logit.target, None]"),
    "pairs of the first picture only": ("parts", "logit.alpha[i : i + 1]", "logit.alpha[:1]"),
}  # fmt: skip


def load(folder: Path, module: str = "", old: str = "", new: str = "") -> ModuleType:
    """Import a copy of the theory with one edit, under a name of its own."""
    name = f"mutant_{next(COUNTER)}"
    package = folder / name
    for place in MODULES:
        text = (ROOT / f"{place}.py").read_text()
        if place.split("/")[-1] == module:
            assert text.count(old) == 1, (
                f"the mutant's text is {text.count(old)} times in {module}.py: keep the list alive"
            )
            text = text.replace(old, new)
        file = package / f"{place}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(text.replace("from carrot.", f"from {name}."))
    stems = [place.replace("/", ".").rpartition(".") for place in MODULES]
    lines = [f"from {name}{f'.{folder}' if folder else ''} import {stem}" for folder, _, stem in stems]
    (package / "__init__.py").write_text("\n".join(lines))
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def everything(c: ModuleType, entries: int = 40, strip: int = 3) -> None:
    """All checks, each on a few small sizes, with blocks so small that there are several."""
    blocks = contract.inside(c, "_ridge.blocks")
    blocks.ENTRIES, blocks.STRIP = entries, strip
    contract.inside(c, "_ridge.passes").GROUP, contract.inside(c, "_ridge.factor").STRIP = 13, strip
    contract.check_graph(c, 3, 4, 5, F64, 0.4, 1.5)
    contract.check_graph(c, 2, 2, 3, F64)
    contract.check_duplicates(c, F32)
    contract.check_isolated(c, 2, 3, 4, 2)
    contract.check_any_laplacian(c, 1.3)
    contract.check_readout(c, 5, 0, 3.0, 0.0)
    contract.check_readout(c, 5, 2, 3.0, 0.3)
    for spec in contract.LIFTS:
        contract.check_lift(c, spec, 5, 4, seed=3, gamma=0.7)
    for t in (0.7, 3.0):
        contract.check_diffusion(c, 3, 4, 5, t, F64)
        contract.check_subsets(c, 3, 3, 4, t, F64)
        contract.check_region_attribution(c, 2, 3, 4, t)
    for spec, n, tau, share in LIFTED:
        contract.check_lifted_attribution(c, spec, n, tau, share)
    for n, D in ((15, 5), (8, 20)):
        contract.check_head(c, n, D, 2, 0.3, True)
        contract.check_training_attribution(c, n, D, 2, 0.3, True)
        for intercept in (True, False):
            contract.check_edited_loo(c, n, D, 0.3, intercept)
            contract.check_removals(c, n, D, 0.3, intercept)
        contract.check_head(c, n, D, 2, 0.3, False)
        contract.check_edits(c, n, D, 0.3, True)
        contract.check_updates(c, n, D, 0.3, True, True)
        contract.check_updates(c, n, D, 0.3, True, True, giant=1e6)
        contract.check_float32_rows(c, n, D, 0.3, True)
        for intercept in (True, False):
            contract.check_restored(c, n, D, 0.3, intercept)
    contract.check_path_of_many_classes(c)
    contract.check_alone(c)
    for C in (3, 12):
        contract.check_labels(c, 40, 4, C, True)
    contract.check_labels(c, 14, 20, 3, False)
    for intercept in (True, False):
        contract.check_giants(c, 32, 30, intercept)
        contract.check_giants(c, 34, 30, intercept)
        contract.check_small_lam(c, 1e-11, intercept)
        contract.check_edited_copies(c, 12, 5, intercept)
        contract.check_edited_copies(c, 6, 9, intercept)
        for n, D in ((15, 4), (8, 20)):
            contract.check_chosen_again(c, n, D, intercept, [0.5, 1.0, 2.0, 4.0, 8.0], "told")
            contract.check_chosen_again(c, n, D, intercept, [1e-6, 1e-3], "nothing")
        contract.check_chosen_again(c, 12, 5, intercept, [1e-8, 1e6], "copies")
        contract.check_chosen_again(c, 9, 20, intercept, [3e-5, 1e-4], "pairs")
        contract.check_chosen_again(c, 7, 9, intercept, [1e-8, 1e6], "alone")
        contract.check_conformal(c, 16, 4, 3, 0.3, intercept)
        contract.check_conformal(c, 8, 20, 2, 0.3, intercept)
        contract.check_conformal(c, 12, 5, 3, 1e-8, intercept, alone=True)
        contract.check_settled(c, 24, 6, 3, intercept, True)
        contract.check_settled(c, 15, 30, 4, intercept, True)
        contract.check_groups(c, 15, 5, intercept)
        contract.check_groups(c, 8, 20, intercept)
    contract.check_subsets_of_few(c)
    contract.check_flips(c)
    contract.check_contrast(c, "quadratic", 3.0, 0.3)
    contract.check_statistics(c)


@pytest.mark.parametrize(("entries", "strip"), [(40, 3), (1, 1), (10**6, 10**3)])
def test_an_undamaged_copy_passes(tmp_path: Path, entries: int, strip: int) -> None:
    everything(load(tmp_path), entries, strip)


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_rejected(name: str, tmp_path: Path) -> None:
    mutant = load(tmp_path, *MUTANTS[name])
    with pytest.raises(AssertionError):
        everything(mutant)
