"""The region graph of one bird: what the readout weighs before and after heat has flowed along it.

Usage: python examples/region_graph.py [region_graph.png]
"""

import sys

from matplotlib.figure import Figure

from carrot import Carrot
from carrot.data.toy import ToyBirds

birds = ToyBirds(n_train_per_class=1, n_test_per_class=1, n_species=2)
picture = birds.image(3)

figure = Figure(figsize=(9, 2.6), layout="constrained")
first, *rest = figure.subplots(1, 5)
first.imshow(picture)
first.set_title("picture", fontsize=9)
for axes, t in zip(rest, (0.0, 1.0, 4.0, 32.0), strict=True):
    trace = Carrot("toy", lift="identity", t=t, sigma_spatial=0.2, tau=0.0).trace(picture)  # nothing is fitted
    weights = axes.imshow(trace.pi.reshape(trace.regions.grid_hw).numpy(), cmap="viridis")
    axes.set_title(f"pi, t = {t:g}", fontsize=9)
    figure.colorbar(weights, ax=axes, shrink=0.6)
for axes in (first, *rest):
    axes.axis("off")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "region_graph.png", dpi=80)
