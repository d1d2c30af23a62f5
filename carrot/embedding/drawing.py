"""A trace to look at: the graph, the weights, the spectrum and what diffusion smoothed; as a figure and as a card."""

from typing import TYPE_CHECKING

from carrot._display import html
from carrot._display.graphs import array, before_after, canvas, matrix, regions, spectrum
from carrot.attribution import dirichlet_energy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carrot.embedding.trace import Trace

MEANS = {
    "H": "features of the regions",
    "P": "their places, (x, y) in [-1, 1]",
    "W": "adjacency",
    "L": "normalised Laplacian",
    "r": "weights of the readout",
    "pi": "weights after diffusion, exp(-tL) r",
    "H_prime": "features after diffusion, exp(-tL) H",
    "g": "what the head is given",
    "logits": "what the head says",
}


def trace_figure(trace: "Trace") -> "Figure":
    """Return W, degrees, pi, the spectrum of L with what diffusion leaves of it, and how it smoothed the features.

    Smoothing is Dirichlet energy by region, before and after: in all it never rises.
    """
    figure, (of_W, of_degree, of_pi, of_L, of_H) = canvas(5)
    grid_hw, local = trace.regions.grid_hw, trace.regions.num_regions - trace.regions.num_global
    whole = "" if local == len(trace.pi) else f"; the whole picture has {float(trace.pi[local:].sum()):.3g}"
    matrix(of_W, array(trace.W), "W")
    regions(of_degree, array(trace.graph.degree)[:local], grid_hw, "degree")
    regions(of_pi, array(trace.pi)[:local], grid_hw, f"pi{whole}")
    spectrum(of_L, array(trace.L), trace.operator.t)
    before_after(
        of_H,
        array(trace.dirichlet_energy),
        array(dirichlet_energy(trace.H_prime, trace.graph)),
        "Dirichlet energy of each region",
    )
    return figure


def trace_card(trace: "Trace") -> str:
    """Return each object with its letter and shape, and W and pi as pictures."""
    local = trace.regions.num_regions - trace.regions.num_global
    objects = trace.tensors() | ({} if trace.logits is None else {"logits": trace.logits})
    table = html.table(["", "shape", ""], [(name, tuple(x.shape), MEANS[name]) for name, x in objects.items()])
    pi = array(trace.pi)[:local]
    drawn = [html.heat(array(trace.W), "W"), html.heat(pi.reshape(trace.regions.grid_hw or (1, local)), "pi")]
    return html.card(f"Trace of a picture of {local} regions, t = {trace.operator.t:g}", html.beside(table, *drawn))
