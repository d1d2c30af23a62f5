"""Truth to hold other methods against: what really happens to answers when training pictures go.

::

    loo[i, j]        = f_j(z_j) - f_j(z_j fitted without i)        every training picture i, every test picture j
    group[s][q, j]   = f_j(z_j) - f_j(z_j fitted without group q)  random groups of s pictures
    subset[r, j, :]  = z_j of a head fitted on subset r alone      m random subsets of a share alpha

``loo`` is the closed form, held against some real refits as it is written; groups are the closed form or a refit,
whichever is less work; subsets are refits. lam is held throughout. Files are .npy, filled by blocks, with truth.json
beside them, which says what each is. ``Truth`` gives them in the form that quanda's and dattri's metrics take.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot.attribution import group_removal_effect
from carrot.head import RidgeHead
from carrot.referee.scores import Question, training_scores
from carrot.store.files import write_atomically
from carrot.utils import whole_number

VERSION = 1
CHUNK = 64  # test pictures of one block
CHECKED = 8  # training pictures that are really left out, to measure the closed form


@dataclass(frozen=True, eq=False)
class Truth:
    """Tables that ``write_truth`` wrote, mapped and not read.

    Attributes:
        facts: truth.json.
        loo: (n, m) effects.
        groups: Effects (q, m) and training indices (q, s) of the groups, by their size s.
        subsets: (r, k) training indices of each subset, ascending.
        subset_logits: (r, m, C).
        question: What f is.
    """

    facts: dict[str, Any]
    loo: NDArray[np.float64]
    groups: dict[int, tuple[NDArray[np.float64], NDArray[np.int64]]]
    subsets: NDArray[np.int64]
    subset_logits: NDArray[np.float64]
    question: Question

    __repr__ = brief

    @classmethod
    def load(cls, folder: str | Path) -> "Truth":
        """Open what ``write_truth`` wrote.

        Raises:
            ValueError: It is of a newer version.
            FileNotFoundError: There is none, or it was not finished.
        """
        root = Path(folder)
        facts = json.loads((root / "truth.json").read_text())
        if facts["version"] > VERSION:
            raise ValueError(f"{root}: is of version {facts['version']}; this CARROT reads {VERSION}.")

        def table(name: str) -> NDArray[Any]:
            return np.load(root / name, mmap_mode="r")

        groups = {
            int(size): (table(f"group-{size}.npy"), table(f"group-{size}-indices.npy")) for size in facts["group_sizes"]
        }
        against = facts["against"]
        f = Question(torch.tensor(facts["targets"]), facts["of"], None if against is None else torch.tensor(against))
        return cls(facts, table("loo.npy"), groups, table("subset-indices.npy"), table("subset-logits.npy"), f)

    def for_lds(self) -> tuple[Float[Tensor, "r m"], Int[Tensor, "r k"]]:
        """Return what dattri's ``lds`` takes: f of each subset's head, and its training indices."""
        return self.question(torch.from_numpy(np.array(self.subset_logits))), torch.from_numpy(np.array(self.subsets))

    def for_loo_corr(self) -> tuple[Float[Tensor, "n m"], Int[Tensor, " n"]]:
        """Return what dattri's ``loo_corr`` takes: effects, and which picture is left out. Scores are effects too."""
        return torch.from_numpy(np.array(self.loo)), torch.arange(len(self.loo))

    def for_quanda(self) -> dict[str, Any]:
        """Return ``subset_ids`` of quanda's ``LinearDatamodelingMetric``, and ``subset_logits`` of its ``update``."""
        logits = torch.from_numpy(np.array(self.subset_logits)).float()
        return {"subset_ids": self.subsets.tolist(), "subset_logits": dict(enumerate(logits))}


@pinned()
def write_truth(
    head: RidgeHead,
    g_test: Float[Tensor, "m D"],
    folder: str | Path,
    targets: Int[Tensor, " m"] | Sequence[int] | None = None,
    *,
    of: str = "logit",
    against: Int[Tensor, " m"] | Sequence[int] | None = None,
    group_sizes: Sequence[int] = (10, 100),
    groups: int = 20,
    subsets: int = 100,
    alpha: float = 0.5,
    seed: int = 0,
) -> Truth:
    """Write the tables, and return them.

    Cost: one solve for the test pictures, n m C numbers by blocks, and ``subsets`` fits.

    Args:
        head: Fitted on rows.
        g_test: Embeddings of the test pictures.
        folder: Where; made if absent. Tables that are there are replaced.
        targets: The class of each test picture; default: that predicted.
        of: What f is, a function's name (``Question``).
        against: The other class of each, for a contrast.
        group_sizes: Sizes of groups; those of n or more are left out.
        groups: Random groups of each size.
        subsets: Random subsets.
        alpha: The share of the training pictures in each; a subset that lacks a class has logits of it all the same.
        seed: Of what is drawn.

    Raises:
        ValueError: A share or a number is out of range.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"`alpha` must be in (0, 1); got {alpha!r}.")
    groups, subsets = whole_number("groups", groups, 1), whole_number("subsets", subsets, 2)
    logits, n = head.predict(g_test), len(head.G)
    f = Question(
        logits.argmax(dim=-1) if targets is None else torch.as_tensor(targets).long(),
        of,
        None if against is None else torch.as_tensor(against).long(),
    ).require(*logits.shape)
    root, rng = Path(folder), np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    (root / "truth.json").unlink(missing_ok=True)  # what is being written is not yet there
    m, C = logits.shape

    loo = np.lib.format.open_memmap(root / "loo.npy", "w+", np.float64, (n, m))
    for block in torch.arange(m).split(CHUNK):
        part = None if f.against is None else f.against[block]
        loo[:, block.numpy()] = training_scores(head, g_test[block], f.targets[block], of=of, against=part).mT.numpy()
    checked = np.sort(rng.permutation(n)[: min(CHECKED, n - 1)])
    real = torch.stack([f(logits) - f(head.without(int(i)).predict(g_test)) for i in checked]).numpy()
    error = float(np.abs(real - loo[checked]).max() / max(np.abs(real).max(), np.finfo(float).tiny))

    sizes = [whole_number("group_sizes", s, 1) for s in group_sizes if s < n]
    for size in sizes:
        picked = np.stack([np.sort(rng.permutation(n)[:size]) for _ in range(groups)])
        effects = [f(logits) - f(_without(head, g_test, logits, torch.from_numpy(group))) for group in picked]
        np.save(root / f"group-{size}.npy", torch.stack(effects).numpy())
        np.save(root / f"group-{size}-indices.npy", picked)

    k = max(1, int(alpha * n))
    picked = np.stack([np.sort(rng.permutation(n)[:k]) for _ in range(subsets)])
    found = np.lib.format.open_memmap(root / "subset-logits.npy", "w+", np.float64, (subsets, m, C))
    for row, rows in zip(range(subsets), torch.from_numpy(picked), strict=True):
        found[row] = _fitted_on(head, rows).predict(g_test).numpy()
    np.save(root / "subset-indices.npy", picked)
    for table in (loo, found):
        table.flush()
    facts = {
        "version": VERSION,
        "what": "exact effects of training pictures on a closed-form ridge head; see carrot.referee.truth",
        "of": of,
        "targets": f.targets.tolist(),
        "against": None if f.against is None else f.against.tolist(),
        "lam": head.lam,
        "fit_intercept": head.fit_intercept,
        "n": n,
        "m": m,
        "C": C,
        "D": g_test.shape[1],
        "alpha": alpha,
        "seed": seed,
        "group_sizes": sizes,
        "checked_refits": checked.tolist(),
        "largest_error_over_largest_effect": error,
        "files": {
            "loo.npy": "(n, m) f_j(full) - f_j(fitted without i), float64",
            "group-S.npy": "(q, m) f_j(full) - f_j(fitted without the group), float64; group-S-indices.npy: (q, S)",
            "subset-logits.npy": "(r, m, C) logits of heads fitted on subsets alone; subset-indices.npy: (r, k)",
        },
    }
    write_atomically(root / "truth.json", (json.dumps(facts, indent=1) + "\n").encode())
    return Truth.load(root)


def _without(head: RidgeHead, g_test: Tensor, logits: Tensor, group: Tensor) -> Tensor:
    """Return the logits fitted without a group: in closed form, or by a fit where the group is large."""
    if len(group) > min(head.G.shape) // 2:
        return head.without(group).predict(g_test)
    return logits - group_removal_effect(head, g_test, group)


def _fitted_on(head: RidgeHead, rows: Tensor) -> RidgeHead:
    return RidgeHead(head.lam, head.fit_intercept).fit(head.G[rows], head.Y[rows], head.sample_weight[rows])
