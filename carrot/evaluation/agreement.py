"""Do the numbers of a map say what happens when regions go? Correlations, squared errors; and how sparse the map is.

Arrays in, numbers out, for any level: a map a (N,), versions of the picture in which only the regions ``keep[:, r]``
are left (N, R), the logit v_r of each (R,), and that of the picture as it is. Tokens dropped from a graph
(``carrot.removal``), tiles not shown, pixels filled: the functions don't know, and their numbers must not be mixed.

::

    foretold_r = sum_{i not kept in r} a_i,      drop_r = v(all) - v_r
    sensitivity-n      Pearson correlation over r of foretold_r and drop_r, each r without n regions               (1)
    infidelity         mean over r of (beta foretold_r - drop_r)^2,    beta = 1, or the best one                   (2)
    single deletion    Spearman correlation over i of a_i and drop_i, region i alone gone                          (3)
    sparseness         Gini coefficient of |a|: sum_i (2 i - N - 1) |a|_(i) / (N sum_i |a|_i), ascending           (4)

(1) and (3) are in [-1, 1] and 1 is best; equal values have their mean rank. (2) is in squares of what v is in; 0 is
best. (4) is 0 for a map that is even, 1 - 1/N for one region alone; neither is better. Where a map or the drops don't
vary, beyond the rounding of their sums, a correlation is undefined: None. So is the sparseness of a map of zeros.

Reference: Ancona et al., ICLR 2018, for (1); Yeh et al., NeurIPS 2019, for (2); Hesse et al., NeurIPS 2024, for (3),
there of 4 x 4 patches; Chalasani et al., ICML 2020, for (4).
"""

from typing import NamedTuple, SupportsFloat, SupportsIndex

import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from carrot.evaluation.inputs import as_tensor
from carrot.utils import real_number, require_finite, whole_number


def random_subsets(
    N: SupportsIndex, n: SupportsIndex, R: SupportsIndex, seed: SupportsIndex = 0
) -> Bool[Tensor, "N R"]:
    """Return R versions, each without n regions drawn at random: False where a region goes. They may repeat.

    Args:
        N: Number of regions.
        n: How many go, 1 .. N.
        R: Number of versions.
        seed: Of the draw.

    Raises:
        ValueError: A number is out of range.
        TypeError: A number is not whole.
    """
    N, R = whole_number("N", N, 1, what=", regions"), whole_number("R", R, 1, what=", versions")
    n = whole_number("n", n, 1, N, ", regions that go")
    generator = torch.Generator().manual_seed(whole_number("seed", seed))
    gone = torch.rand(N, R, generator=generator, dtype=torch.float64).argsort(dim=0)[:n]
    return torch.ones(N, R, dtype=torch.bool).scatter_(0, gone, False)


def sensitivity_n(
    attributions: ArrayLike | Tensor, keep: ArrayLike | Tensor, values: ArrayLike | Tensor, whole: SupportsFloat
) -> float | None:
    """Return how well the map's sums go with the drops of subsets of one size, equation (1); None if undefined.

    Args:
        attributions: A number for each region, row-major in any shape.
        keep: (N, R) booleans, True for the regions that stay; each column lacks the same number n of them. Such as
            ``random_subsets``.
        values: (R,), the logit of each version.
        whole: The logit of the picture as it is.

    Raises:
        ValueError: Shapes don't match, numbers are not finite, there are fewer than two versions, or they lack
            different numbers of regions, or none.
        TypeError: ``keep`` is not boolean, or numbers are not real.
    """
    a, gone, v, w = _checked(attributions, keep, values, whole)
    sizes = gone.sum(dim=0)
    if len(sizes) < 2 or int(sizes.min()) != int(sizes.max()) or int(sizes[0]) == 0:
        raise ValueError(
            f"`keep` must have at least two columns, each of which lacks the same number n >= 1 of regions; got "
            f"{len(sizes)} that lack {int(sizes.min())} to {int(sizes.max())}. Measure each n by itself."
        )
    return _pearson(a @ gone.double(), w - v, _rounding(a, attributions), _rounding(torch.cat([v, w[None]]), values))


def infidelity(
    attributions: ArrayLike | Tensor,
    keep: ArrayLike | Tensor,
    values: ArrayLike | Tensor,
    whole: SupportsFloat,
    is_scaled: bool = False,
) -> float:
    """Return the mean squared difference of the map's sums and the drops, equation (2).

    Args:
        attributions: A number for each region, row-major in any shape.
        keep: (N, R) booleans, True for the regions that stay; any subsets.
        values: (R,), the logit of each version.
        whole: The logit of the picture as it is.
        is_scaled: Multiply the map by the factor that makes the result least, for maps that are not in logits.

    Raises:
        ValueError: Shapes don't match, numbers are not finite, or there is no version.
        TypeError: ``keep`` is not boolean, or numbers are not real.
    """
    a, gone, v, w = _checked(attributions, keep, values, whole)
    foretold, drop = a @ gone.double(), w - v
    if is_scaled:
        square = float(foretold @ foretold)
        foretold = foretold * (float(foretold @ drop) / square if square > 0 else 0.0)
    return float((foretold - drop).square().mean())


def single_deletion_correlation(attributions: ArrayLike | Tensor, drops: ArrayLike | Tensor) -> float | None:
    """Return how well the map ranks the drops of its regions alone, equation (3); None if undefined.

    Args:
        attributions: A number for each region, row-major in any shape.
        drops: As many: the logit of the picture as it is, less that without the region (``Coalitions.each``).

    Raises:
        ValueError: They don't match, or are not finite.
        TypeError: They are not real numbers.
    """
    a, d = _real("attributions", attributions), _real("drops", drops)
    if len(a) != len(d):
        raise ValueError(f"`drops` must be one number for each of the {len(a)} attributions; got {len(d)}.")
    return _pearson(_ranks(a), _ranks(d), 0.0, 0.0)


def sparseness(attributions: ArrayLike | Tensor) -> float | None:
    """Return the Gini coefficient of the absolute values, equation (4); None if all are 0.

    Args:
        attributions: A number for each region, row-major in any shape.

    Raises:
        ValueError: There is none, or one is not finite.
        TypeError: They are not real numbers.
    """
    a = _real("attributions", attributions).abs().sort().values
    if float(a[-1]) == 0.0:
        return None
    a, N = a / a[-1], len(a)
    return float((2 * torch.arange(1, N + 1, dtype=torch.float64) - N - 1) @ a / (N * a.sum()))


class _Asked(NamedTuple):
    """What was given: the map, which regions each version lacks, their logits, and that of the picture as it is."""

    a: Float[Tensor, " N"]
    gone: Bool[Tensor, "N R"]
    v: Float[Tensor, " R"]
    whole: Float[Tensor, ""]


def _checked(
    attributions: ArrayLike | Tensor, keep: ArrayLike | Tensor, values: ArrayLike | Tensor, whole: SupportsFloat
) -> _Asked:
    a, v, k = _real("attributions", attributions), _real("values", values), as_tensor(keep)
    if k.dtype != torch.bool:
        raise TypeError(f"`keep` must be booleans, True for the regions that stay; got {k.dtype}. Compare it: `> 0`.")
    if k.shape != (len(a), len(v)):
        raise ValueError(
            f"`keep` must be ({len(a)}, {len(v)}), a row for each region and a column for each of `values`; got "
            f"{tuple(k.shape)}."
        )
    w = torch.tensor(real_number("whole", whole), dtype=torch.float64)
    require_finite("whole", w)
    return _Asked(a, ~k, v, w)


def _real(name: str, values: ArrayLike | Tensor) -> Float[Tensor, " N"]:
    v = as_tensor(values)
    if v.dtype == torch.bool or v.is_complex():
        raise TypeError(f"`{name}` must be real numbers; got {v.dtype}.")
    if not v.numel():
        raise ValueError(f"`{name}` must hold at least one number; got none.")
    require_finite(name, v)
    return v.double().flatten()


def _rounding(summed: Tensor, given: ArrayLike | Tensor) -> float:
    """Return what the sums or differences of some numbers may vary by, for their precision alone."""
    dtype = as_tensor(given).dtype
    eps = torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps
    return len(summed) * eps * float(summed.abs().max())


def _pearson(x: Tensor, y: Tensor, x_rounding: float, y_rounding: float) -> float | None:
    """Return the correlation; None where one of the two doesn't vary by more than rounding."""
    x, y = x - x.mean(), y - y.mean()
    x_size, y_size = float(x.abs().max()), float(y.abs().max())
    if x_size <= x_rounding or y_size <= y_rounding:
        return None
    x, y = x / x_size, y / y_size  # so that no square overflows or vanishes
    return max(-1.0, min(1.0, float(x @ y / (x.norm() * y.norm()))))


def _ranks(values: Tensor) -> Tensor:
    """Return each value's rank from 1; equal ones have the mean of theirs."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(dim=0) - (counts - 1) / 2.0).double()[place]
