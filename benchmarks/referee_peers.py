"""Each method of ``benchmarks.referee``: its call, its best fair setting, and what its numbers are brought to.

S (n, m) is what the predicted class's logit loses without each training picture; ``unit`` says whether it is in that
unit, or only ranks. Losses are sums or means of 0.5 |logits - one-hot|^2, as the head minimises; its penalty is the
damping, lam / n where the loss is a mean. Peers work in float32, as they do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from carrot import RidgeHead
from carrot.referee import training_scores
from carrot.referee.rows import linear
from carrot.referee.scores import contradiction


@dataclass(frozen=True, eq=False)
class Problem:
    """The head, its rows, wrong labels among them, and the test pictures with the classes that are asked about."""

    head: RidgeHead
    G: Tensor
    y: Tensor
    g: Tensor
    target: Tensor
    wrong: Tensor

    @property
    def C(self) -> int:
        """Number of classes."""
        return self.head.Y.shape[1]

    @property
    def narrow(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows, labels, test rows, targets, as peers get them."""
        return self.G.float(), self.y, self.g.float(), self.target

    def module(self) -> nn.Module:
        """Return the head as a module with one layer, ``head``."""
        made = nn.Sequential()
        made.add_module("head", linear(self.head))
        return made.eval()


@dataclass(frozen=True)
class Method:
    """How a method is run."""

    run: Callable[[Problem], dict[str, Any]]
    setting: str
    package: str | None = None


class Clock:
    """Seconds between calls."""

    def __init__(self) -> None:
        self.last = perf_counter()

    def __call__(self) -> float:
        """Return the seconds since the last call."""
        now = perf_counter()
        took, self.last = now - self.last, now
        return took


def ours(p: Problem, kind: str) -> dict[str, Any]:
    clock = Clock()
    head = RidgeHead(p.head.lam).fit(p.G, p.y)
    fit = clock()
    S = training_scores(head, p.g, p.target, kind=kind).mT.contiguous()
    return {"S": S, "self": contradiction(head), "fit_s": fit, "score_s": clock(), "unit": kind == "removal"}


def first_order(p: Problem) -> dict[str, Any]:
    """Return s_i(g) R_i, what influence with the exact Hessian gives; its self-influence is of the loss."""
    clock = Clock()
    head = RidgeHead(p.head.lam).fit(p.G, p.y)
    fit = clock()
    S = (head.smoother(p.g) * head.residual[:, p.target].mT).mT.contiguous()
    own = head.leverage * head.residual.square().sum(dim=1)
    return {"S": S, "self": own, "fit_s": fit, "score_s": clock(), "unit": True}


def neighbours(p: Problem) -> dict[str, Any]:
    clock = Clock()
    K = F.normalize(p.G, dim=1) @ F.normalize(p.g, dim=1).mT  # (n, m)
    S = K * (2.0 * (p.y[:, None] == p.target) - 1.0)
    near = (F.normalize(p.G, dim=1) @ F.normalize(p.G, dim=1).mT).fill_diagonal_(-torch.inf).topk(20, dim=1).indices
    own = (p.y[near] != p.y[:, None]).double().mean(dim=1)
    return {"S": S, "self": own, "fit_s": 0.0, "score_s": clock(), "unit": False}


class Loss(nn.Module):
    """Captum looks at ``reduction``."""

    def __init__(self, C: int, reduction: str, target: bool = False) -> None:
        super().__init__()
        self.C, self.reduction, self.target = C, reduction, target

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, or minus the logit of the label."""
        one_hot = F.one_hot(labels, self.C).to(logits)
        each = -(logits * one_hot).sum(dim=-1) if self.target else 0.5 * (logits - one_hot).square().sum(dim=-1)
        return each.sum() if self.reduction == "sum" else each


def captum(p: Problem, kind: str) -> dict[str, Any]:
    from captum.influence import TracInCPFast
    from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
    from captum.influence._core.influence_function import NaiveInfluenceFunction

    G, y, g, target = p.narrow
    model, rows = p.module(), TensorDataset(G, y)
    place = str(Path(mkdtemp()) / "head.pt")
    torch.save(model.state_dict(), place)

    def load(module: nn.Module, path: str) -> float:
        module.load_state_dict(torch.load(path, weights_only=True))
        return 1.0

    P = G.shape[1] * p.C
    how: dict[str, Any] = {"batch_size": 256, "checkpoints_load_func": load}
    losses = Loss(p.C, "sum"), Loss(p.C, "sum", target=True)
    clock = Clock()
    if kind == "TracInCPFast":
        made = TracInCPFast(model, model.head, rows, [place], loss_fn=losses[0], test_loss_fn=losses[1], **how)
    else:
        how |= {"sample_wise_grads_per_batch": True, "hessian_reg": p.head.lam, "hessian_inverse_tol": 0.0}
        how |= {"loss_fn": losses[0], "test_loss_fn": losses[1]}
        if kind == "Naive":
            made = NaiveInfluenceFunction(model, rows, place, projection_dim=P, **how)
        else:
            made = ArnoldiInfluenceFunction(
                model, rows, place, projection_dim=min(200, P), arnoldi_dim=min(400, P), arnoldi_tol=1e-6, **how
            )
    fit = clock()
    S = made.influence((g, target)).detach().mT.contiguous()
    return {
        "S": S,
        "fit_s": fit,
        "score_s": clock(),
        "self": made.self_influence().detach(),
        "unit": kind != "TracInCPFast",
    }


def kronfluence(p: Problem, strategy: str) -> dict[str, Any]:
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task
    from kronfluence.utils.dataset import DataLoaderKwargs

    G, y, g, target = p.narrow
    n, C = len(G), p.C

    class Squares(Task):  # type: ignore[misc]
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            logits = model(batch[0])
            wanted = F.one_hot(batch[1], C).to(logits)
            if sample:  # the true Fisher of a Gaussian of unit variance
                with torch.no_grad():
                    wanted = torch.normal(logits.detach(), 1.0)
            return 0.5 * (logits - wanted).square().sum()

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return -model(batch[0]).gather(1, batch[1][:, None]).sum()

    rows, asked = TensorDataset(G, y), TensorDataset(g, target)
    clock = Clock()
    made = Analyzer(
        "c", prepare_model(p.module(), Squares()), Squares(), cpu=True, output_dir=mkdtemp(), disable_tqdm=True
    )
    made.set_dataloader_kwargs(DataLoaderKwargs(num_workers=0))
    size, damping = min(n, 1024), ScoreArguments(damping_factor=p.head.lam / n)
    made.fit_all_factors("f", rows, per_device_batch_size=size, factor_args=FactorArguments(strategy=strategy))
    fit = clock()
    made.compute_pairwise_scores(
        "s", "f", query_dataset=asked, train_dataset=rows, per_device_query_batch_size=len(g),
        per_device_train_batch_size=size, score_args=damping,
    )  # fmt: skip
    S = made.load_pairwise_scores("s")["all_modules"].mT.contiguous() / n
    score = clock()
    made.compute_self_scores("self", "f", train_dataset=rows, per_device_train_batch_size=size, score_args=damping)
    own = made.load_self_scores("self")["all_modules"].flatten()
    return {"S": S, "self": own, "fit_s": fit, "score_s": score, "unit": True}


def trak(p: Problem, proj: int) -> dict[str, Any]:
    import logging

    from trak import TRAKer
    from trak.modelout_functions import AbstractModelOutput
    from trak.projectors import BasicProjector, ProjectionType

    G, y, g, target = p.narrow

    class Out(AbstractModelOutput):  # type: ignore[misc]
        def __init__(self) -> None:  # which is abstract there
            super().__init__()

        @staticmethod
        def get_output(model: nn.Module, weights: Any, buffers: Any, x: Tensor, label: Tensor) -> Tensor:
            return (
                torch.func.functional_call(model, (weights, buffers), x.unsqueeze(0))[0]
                .gather(0, label.reshape(1))
                .sum()
            )

        def get_out_to_loss_grad(self, model: nn.Module, weights: Any, buffers: Any, batch: Any) -> Tensor:
            logits = torch.func.functional_call(model, (weights, buffers), batch[0])
            return (1 - logits.gather(1, batch[1][:, None])).detach().clone()

    P, n = G.shape[1] * p.C, len(G)
    clock = Clock()  # lambda_reg: features are J Phi / sqrt(P), and Phi^T Phi is P I on average, so that lam stays lam
    projector = BasicProjector(
        grad_dim=P, proj_dim=proj, seed=0, proj_type=ProjectionType.normal, device="cpu", dtype=torch.float32
    )
    model = p.module()
    made = TRAKer(
        model=model, task=Out(), train_set_size=n, save_dir=mkdtemp(), device="cpu", projector=projector,
        use_half_precision=False, logging_level=logging.ERROR, lambda_reg=p.head.lam,
    )  # fmt: skip
    made.load_checkpoint(model.state_dict(), model_id=0)
    for rows in torch.arange(n).split(500):
        made.featurize(batch=(G[rows], y[rows]), num_samples=len(rows))
    made.finalize_features()
    fit = clock()
    found = []
    for name, X, labels in (("t", g, target), ("self", G, y)):
        made.start_scoring_checkpoint(exp_name=name, checkpoint=model.state_dict(), model_id=0, num_targets=len(X))
        for rows in torch.arange(len(X)).split(500):
            made.score(batch=(X[rows], labels[rows]), num_samples=len(rows))
        found.append((torch.from_numpy(made.finalize_scores(exp_name=name).copy()), clock()))
    (S, score), (own, _) = found
    return {"S": S, "self": own.diagonal().clone(), "fit_s": fit, "score_s": score, "unit": False}


def dattri(p: Problem, kind: str) -> dict[str, Any]:
    import dattri.algorithm as algorithms
    from dattri.task import AttributionTask

    G, y, g, target = p.narrow
    n, model, places = len(G), p.module(), torch.arange(p.C)

    def logits(params: Any, data: Any) -> tuple[Tensor, Tensor]:
        one_hot = (data[1].reshape(-1, 1) == places).float()  # F.one_hot can't be mapped over
        return torch.func.functional_call(model, params, data[0].reshape(-1, G.shape[1])), one_hot

    def loss(params: Any, data: Any) -> Tensor:
        z, one_hot = logits(params, data)
        return 0.5 * (z - one_hot).square().sum(dim=-1).mean()

    def asked(params: Any, data: Any) -> Tensor:
        z, one_hot = logits(params, data)
        return -(z * one_hot).sum()

    def made(of: Any) -> Any:
        task = AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict(), target_func=of)
        if kind == "IF-CG":
            return algorithms.IFAttributorCG(task=task, max_iter=10, regularization=p.head.lam / n)
        if kind == "IF-EKFAC":
            return algorithms.IFAttributorEKFAC(task=task, module_name="head", damping=p.head.lam / n)
        wide = {"proj_dim": 4096, "device": "cpu"}
        return algorithms.TracInAttributor(
            task=task, weight_list=torch.ones(1), normalized_grad=False, projector_kwargs=wide
        )

    rows = DataLoader(TensorDataset(G, y), batch_size=n)
    questions = DataLoader(TensorDataset(g, target), batch_size=len(g))
    clock = Clock()
    one = made(asked)
    if kind != "GradDot":
        one.cache(rows)
    fit = clock()
    found = one.attribute(rows, questions).detach() / n
    note, score, own = "", clock(), None
    try:
        if kind == "GradDot":
            own = one.self_attribute(rows).detach()
    except Exception as error:  # what a peer raises is its result
        note = f"self_attribute: {type(error).__name__}"
    return {"S": found, "self": own, "fit_s": fit, "score_s": score, "unit": kind == "IF-CG", "note": note}


def pydvl(p: Problem, kind: str) -> dict[str, Any]:
    from pydvl.influence.torch import ArnoldiInfluence, CgInfluence, EkfacInfluence

    G, y, g, target = p.narrow
    Y, wanted, n = F.one_hot(y, p.C).float(), F.one_hot(target, p.C).float(), len(G)

    def loss(z: Tensor, t: Tensor) -> Tensor:
        return 0.5 * (z - t).square().sum(dim=-1).mean()

    damping = p.head.lam / n
    makes = {
        "CG": lambda m: CgInfluence(m, loss, regularization=damping, rtol=1e-6, maxiter=50),
        "Arnoldi": lambda m: ArnoldiInfluence(m, loss, regularization=damping, rank=100),
        "EK-FAC": lambda m: EkfacInfluence(m, update_diagonal=True, hessian_regularization=damping),
    }
    clock = Clock()
    made = makes[kind](p.module()).fit(DataLoader(TensorDataset(G, Y), batch_size=256))
    fit = clock()
    S = made.influences(g, wanted, G, Y).detach().mT.contiguous() / n
    return {"S": S, "fit_s": fit, "score_s": clock(), "unit": False}


METHODS = {
    "CARROT removal": Method(partial(ours, kind="removal"), "exact; self: leave-one-out margin"),
    "CARROT label": Method(partial(ours, kind="label"), "additive: sums to the logit; self as above"),
    "CARROT dual": Method(partial(ours, kind="dual"), "additive, representer values; self as above"),
    "first-order influence": Method(first_order, "closed form, K^-1 exact: the best any influence function can be"),
    "kNN, cosine": Method(neighbours, "signed by label; self: share of 20 neighbours of other labels"),
    "captum TracInCPFast": Method(partial(captum, kind="TracInCPFast"), "one checkpoint, the optimum", "captum"),
    "captum influence, naive": Method(partial(captum, kind="Naive"), "explicit Hessian, hessian_reg lam", "captum"),
    "captum influence, Arnoldi": Method(
        partial(captum, kind="Arnoldi"), "projection_dim 200, arnoldi_dim 400, hessian_reg lam", "captum"
    ),
    "kronfluence EK-FAC": Method(partial(kronfluence, strategy="ekfac"), "damping lam / n", "kronfluence"),
    "kronfluence K-FAC": Method(partial(kronfluence, strategy="kfac"), "damping lam / n", "kronfluence"),
    "TRAK": Method(partial(trak, proj=2048), "proj_dim 2048, float32, one checkpoint, lambda_reg lam", "traker"),
    "dattri IF, CG": Method(partial(dattri, kind="IF-CG"), "full batch, 10 iterations, lam / n", "dattri"),
    "dattri IF, EK-FAC": Method(
        partial(dattri, kind="IF-EKFAC"), "full batch, lam / n; correlates alike from lam / n^3 to lam", "dattri"
    ),
    "dattri GradDot": Method(partial(dattri, kind="GradDot"), "proj_dim 4096 (its default is 512)", "dattri"),
    "pyDVL CG": Method(partial(pydvl, kind="CG"), "lam / n; of the test loss, it takes no other question", "pydvl"),
    "pyDVL Arnoldi": Method(partial(pydvl, kind="Arnoldi"), "rank 100, lam / n; of the test loss", "pydvl"),
    "pyDVL EK-FAC": Method(partial(pydvl, kind="EK-FAC"), "lam / n; of the test loss", "pydvl"),
}
