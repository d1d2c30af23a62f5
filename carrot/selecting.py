"""Choose what the embedding is made with, by exact leave-one-out on the training pictures: the grid, the order, the table.

First lift, tau, global share and coarsening at t = 0; then, for the best of them, the graph. t = 0 therefore always competes, and so
does the mean of the tokens as they are. One backbone pass serves all; each graph is built once, and all its t come from one recurrence.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor

from carrot.backbone import TimmViTPatchBackbone
from carrot.evaluation.selection import Candidate, candidate, select
from carrot.lift import lift_from
from carrot.progress import progress
from carrot.stages import Setting
from carrot.store import TokenCache

GRID: dict[str, tuple[Any, ...]] = {
    "lift": ("identity", "quadratic"),
    "tau": (0.0, 0.5),
    "global_share": (0.0,),
    "coarsen": (1,),
    "sigma_spatial": (0.2, 0.5),
    "sigma_feature": (0.7, 1.0),
    "t": (0.0, 0.5, 2.0, 8.0),
}
INSTEAD = "sketch:8192"  # of a quadratic lift that is too wide


def choose(
    cache: TokenCache,
    rows: Sequence[int],
    labels: Int[Tensor, " n"],
    backbone: TimmViTPatchBackbone,
    grid: Mapping[str, Sequence[Any]],
    fit_intercept: bool = True,
    max_bytes: int = 2**34,
) -> tuple[Candidate[Setting], list[dict[str, object]]]:
    """Return the candidate of the smallest exact leave-one-out error, and a line for each that was tried.

    Args:
        cache: Tokens of the data set.
        rows: Its training pictures.
        labels: Theirs.
        backbone: Says whether there is a class token and its attention.
        grid: What to choose from, by the names of ``Setting``; what is absent is as in ``GRID``.
        fit_intercept: As in ``RidgeHead``.
        max_bytes: Lifts whose embeddings would be larger are left out; "quadratic" then makes room for "sketch:8192".

    Raises:
        ValueError: A name is unknown, a value missing, or a setting doesn't go with the backbone.
    """
    axes = _axes(grid, backbone, len(rows), max_bytes)
    tried: list[dict[str, object]] = []

    def attempt(s: Setting, pi: Tensor | None = None) -> Candidate[Setting]:
        c = candidate(cache.embed(rows, s, pi), labels, s, fit_intercept)
        tried.append({**s._asdict(), "lam": c.head.lam, "loo_mse": c.loo_mse, "loo_accuracy": c.loo_accuracy})
        return c

    names = ("lift", "tau", "global_share", "coarsen")
    plain = [
        Setting(**dict(zip(names, values, strict=True))) for values in itertools.product(*(axes[n] for n in names))
    ]
    plain = list(dict.fromkeys([Setting(), *plain]))
    graphs = [values for values in itertools.product(axes["sigma_spatial"], axes["sigma_feature"]) if any(axes["t"])]
    times = [t for t in axes["t"] if t]
    start = select(attempt(s) for s in progress(plain, "leave-one-out, lift and readout", len(plain)))

    def diffused() -> Iterator[Candidate[Setting]]:
        for sigma_spatial, sigma_feature in progress(graphs, "leave-one-out, graph", len(graphs)):
            bandwidths = start.setting._replace(sigma_spatial=sigma_spatial, sigma_feature=sigma_feature)
            settings = [bandwidths._replace(t=t) for t in times]
            yield from map(attempt, settings, cache.pool(rows, settings))

    return select(itertools.chain([start], diffused())), tried


def table_lines(tried: Sequence[Mapping[str, Any]], chosen: Setting) -> Iterator[str]:
    """Yield the table of what was tried, best first, and what was chosen."""
    yield f"{'setting':<64} {'lam':>9} {'LOO error':>10} {'LOO accuracy':>13}"
    for line in sorted(tried, key=lambda line: float(line["loo_mse"])):
        s = Setting(**{name: line[name] for name in Setting._fields})
        mark = "  <- chosen" if s == chosen else ""
        yield f"{s!s:<64} {line['lam']:9.2g} {line['loo_mse']:10.5f} {line['loo_accuracy']:13.4f}{mark}"
    yield "LOO: exact leave-one-out on the training pictures; error is squared, mean over pictures and classes."


def _axes(
    grid: Mapping[str, Sequence[Any]], backbone: TimmViTPatchBackbone, n: int, max_bytes: int
) -> dict[str, tuple[Any, ...]]:
    unknown = sorted(set(grid) - set(GRID))
    if unknown:
        raise ValueError(f"`grid` must be by the names {', '.join(GRID)}; got {unknown[0]!r}.")
    axes = {name: tuple(dict.fromkeys(grid.get(name, values))) for name, values in GRID.items()}
    empty = [name for name, values in axes.items() if not values]
    if empty:
        raise ValueError(f"`grid` must hold at least one value for {empty[0]!r}; leave it out for the default.")
    if "tau" not in grid and not backbone.attention:
        axes["tau"] = (0.0,)
    axes["t"] = tuple(dict.fromkeys([0.0, *axes["t"]]))

    def fits(lift: str) -> bool:
        return 8 * n * lift_from(lift).dim(backbone.embed_dim) <= max_bytes

    lifts = [lift for lift in axes["lift"] if fits(lift)]
    if "quadratic" in axes["lift"] and "quadratic" not in lifts and fits(INSTEAD):
        lifts.append(INSTEAD)
    if not lifts:
        raise ValueError(
            f"`grid` must hold a lift whose embeddings of {n:,} pictures fit into {max_bytes / 2**30:.0f} GiB."
        )
    axes["lift"] = tuple(lifts)
    return axes
