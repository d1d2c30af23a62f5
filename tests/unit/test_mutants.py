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
MODULES = [
    *("utils", "errors", "regions", "graph", "operator", "readout"),
    *("statistics", "rows", "ridge", "head", "removal", "influence", "attribution"),
]
COUNTER = itertools.count()
F32, F64 = torch.float32, torch.float64

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
    "sigma_s without the 2": ("graph", "2.0 * self.sigma_spatial**2", "self.sigma_spatial**2"),
    "sigma_f without the 2": ("graph", "-0.5 / (self.sigma_feature**2 * m2)", "-1.0 / (self.sigma_feature**2 * m2)"),
    "sigma_f not squared": ("graph", "self.sigma_feature**2 * m2", "self.sigma_feature * m2"),
    "upper median": ("graph", "rank = N + 2 * ((N * (N - 1) // 2 - 1) // 2)", "rank = N + 2 * (N * (N - 1) // 4)"),
    "median with the diagonal": ("graph", "rank = N + 2 * ((N * (N - 1) // 2 - 1) // 2)", "rank = N * N // 2"),
    "duplicates left to rounding": ("graph", "if bool(coarse.any()):", "if False:"),
    "stretched space": ("graph", "regions.isotropic_positions", "regions.positions"),
    "features only": ("graph", "W.sub_(squared_distances(P).div_(2.0 * self.sigma_spatial**2)).exp_()", "W.exp_()"),
    # the operator
    "t doubled": ("operator", "self.t = float(t)", "self.t = 2.0 * float(t)"),
    "identity": ("operator", "self.t = float(t)", "self.t = 0.0"),
    "heat flows backwards": ("operator", "return torch.exp(-self.t * eigenvalues)", "return torch.exp(self.t * eigenvalues)"),
    "matrix_exp of +tL": ("operator", "matrix_exp(-self.t * L)", "matrix_exp(self.t * L)"),
    "one Euler step": (
        "operator",
        "torch.linalg.matrix_exp(-self.t * L)",
        "(torch.eye(N, dtype=L.dtype) - self.t * L)",
    ),
    "c_0 not halved": ("operator", "c[0] /= 2.0", "c[0] /= 1.0"),
    "Bessel at t": ("operator", "ive(np.arange(reach), t / 2.0)", "ive(np.arange(reach), t)"),
    "wrong recurrence": ("operator", "alpha=2.0).sub_(previous)", "alpha=1.0).sub_(previous)"),
    "series cut early": ("operator", "return tuple(c[: K + 1])", "return tuple(c[: max(1, K - 2)])"),
    "plain truncation": ("operator", "math.exp(-self.t) * X + torch.matmul(U, gain", "torch.matmul(U, gain"),
    "truncation bound too small": ("operator", "eigvalsh(L)[..., self.rank]", "eigvalsh(L)[..., min(self.rank + 1, L.shape[-1] - 1)]"),
    "degrees of the whole graph": ("operator", "torch.matmul(W, M).clamp_(min=1.0)", "torch.matmul(W, torch.ones_like(M)).clamp_(min=1.0)"),
    "mean over all regions": ("operator", "torch.where(total > 0, total, torch.ones_like(total))", "N"),
    "deleted nodes conduct": ("operator", "return torch.matmul(W, Rho * X).mul_(Rho)", "return torch.matmul(W, Rho * X).mul_(Rho.amax())"),
    # the readout
    "sum for mean": ("readout", "torch.full((N,), 1.0 / N, dtype=dtype)", "torch.ones((N,), dtype=dtype)"),
    # the head
    "lambda times n (primal)": ("ridge", "_cholesky(S + lam * torch.eye(", "_cholesky(S + lam * statistics.n * torch.eye("),
    "lambda times n (dual)": ("ridge", "M + lam * torch.eye(", "M + lam * len(A) * torch.eye("),
    "means not taken out": ("ridge", "statistics.moments(centred=fit_intercept)", "statistics.moments(centred=False)"),
    "bias forgotten": ("head", "@ self.W_star + self.bias", "@ self.W_star"),
    "weights ignored": ("statistics", "root = w.sqrt().unsqueeze(-1)", "root = torch.ones_like(w).unsqueeze(-1)"),
    "weights not rooted (dual)": ("ridge", "root = w.sqrt().unsqueeze(-1)", "root = w.unsqueeze(-1)"),
    "float32 solve": ("ridge", "torch.cholesky_solve(Q, self._factor)", "torch.cholesky_solve(Q.float(), self._factor.float()).double()"),
    "duals without 1 / lam": ("ridge", "* (w / self._lam).unsqueeze(-1)", "* w.unsqueeze(-1)"),
    "leave-one-out is the residual": ("head", "self.Y - self.residual / self.slack.unsqueeze(-1)", "self.Y - self.residual"),
    "leave-one-out the wrong way": ("head", "self.Y - self.residual / self", "self.Y + self.residual / self"),
    "leverage without the mean (primal)": (
        "ridge",
        "self._whitened_rows.square().sum(dim=-1) + self._shift",
        "self._whitened_rows.square().sum(dim=-1)",
    ),
    "leverage without the mean (dual)": ("ridge", ".diagonal() - self._v_share)", ".diagonal())"),
    "path without the mean (tall)": ("ridge", "1.0 - h0 - squares @ shrink", "1.0 - squares @ shrink"),
    "path without the mean (wide)": ("ridge", "lam * (squares @ shrink - h0 / (c + lam))", "lam * (squares @ shrink)"),
    "means merged without their distance": ("statistics", "share = self.weight * other_weight / weight", "share = 0.0"),
    # attribution
    "node map of undiffused tokens": ("attribution", "H_prime, W_star = widen(H_prime, W_star)", "H_prime, W_star = widen(H, W_star)"),
    "token map with uniform weights": ("attribution", "return pi.unsqueeze(-1) * (H @ W_star)", "return pi.mean() * (H @ W_star)"),
    "energy without the half": ("attribution", "return 0.5 * (degree * norms", "return 1.0 * (degree * norms"),
    "energy unnormalised": ("attribution", "F = H * degree.rsqrt().unsqueeze(-1)", "F = H"),
    "removal without leverage": ("influence", "(head.residual / head.slack.unsqueeze(-1))\n", "head.residual\n"),
    "group as a sum": ("influence", "torch.linalg.solve(inside, head.residual[S])", "(head.residual[S] / head.slack[S].unsqueeze(-1))"),
    "relabelling the wrong way": ("influence", "- head.Y[i])", "+ head.Y[i])"),
    "replacement as delete and add apart": ("influence", "cross = k_old(g_new)", "cross = torch.zeros_like(k_old(g_new))"),
    "pairs without the training weights": ("attribution", "pi_train.unsqueeze(-1) * H_train", "H_train"),
    "drops with the wrong sign": ("removal", "logits[..., N:, :] - logits[..., :N, :]", "logits[..., :N, :] - logits[..., N:, :]"),
    "curve off by one": ("removal", "_rank(order, H.shape[-2]).unsqueeze(-1) >= torch", "_rank(order, H.shape[-2]).unsqueeze(-1) > torch"),
}  # fmt: skip


def load(folder: Path, module: str = "", old: str = "", new: str = "") -> ModuleType:
    """Import a copy of the theory with one edit, under a name of its own."""
    name = f"mutant_{next(COUNTER)}"
    package = folder / name
    package.mkdir()
    for stem in MODULES:
        text = (ROOT / f"{stem}.py").read_text()
        if stem == module:
            assert text.count(old) == 1, (
                f"the mutant's text is {text.count(old)} times in {module}.py: keep the list alive"
            )
            text = text.replace(old, new)
        (package / f"{stem}.py").write_text(text.replace("from carrot.", f"from {name}."))
    (package / "__init__.py").write_text("\n".join(f"from {name} import {stem}" for stem in MODULES))
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def everything(c: ModuleType) -> None:
    """All checks, each on a few small sizes."""
    contract.check_graph(c, 3, 4, 5, F64, 0.4, 1.5)
    contract.check_graph(c, 2, 2, 3, F64)
    contract.check_duplicates(c, F32)
    for t in (0.7, 3.0):
        contract.check_diffusion(c, 3, 4, 5, t, F64)
        contract.check_subsets(c, 3, 3, 4, t, F64)
        contract.check_region_attribution(c, 2, 3, 4, t)
    for n, D in ((15, 5), (8, 20)):
        contract.check_head(c, n, D, 2, 0.3, True)
        contract.check_training_attribution(c, n, D, 2, 0.3, True)
        contract.check_head(c, n, D, 2, 0.3, False)
    contract.check_statistics(c)


def test_an_undamaged_copy_passes(tmp_path: Path) -> None:
    everything(load(tmp_path))


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_rejected(name: str, tmp_path: Path) -> None:
    mutant = load(tmp_path, *MUTANTS[name])
    with pytest.raises(AssertionError):
        everything(mutant)
