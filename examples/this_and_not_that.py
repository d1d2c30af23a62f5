"""Why this species and not its sister: two birds that differ in one part, and the tiles that tell them apart.

Usage: python examples/this_and_not_that.py [this_and_not_that.png]
"""

import sys

from matplotlib.figure import Figure

from carrot import Carrot
from carrot.data.toy import ToyBirds
from carrot.tiling import Tiling

birds = ToyBirds(n_train_per_class=12, n_test_per_class=1, n_species=4, clutter=0)
model = Carrot("toy", regions="tiles:3").fit(birds)
picture = birds.image(48)  # the first test picture

figure = Figure(figsize=(9, 3), layout="constrained")
one, *others = figure.subplots(1, 4)
one.imshow(picture)
one.set_title(birds.classes[0], fontsize=9)
one.axis("off")
for axes, sister in zip(others, birds.classes[1:], strict=True):
    answer = model.explain(picture, target=birds.classes[0], against=sister)
    spread = Tiling.from_spec("tiles:3").pixel_map(answer.regions, picture.size).numpy()
    limit = abs(spread).max()
    axes.imshow(picture.convert("L"), cmap="gray")
    axes.imshow(spread, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.6)
    axes.set_title(f"and not {sister}\n{answer.parts.logit:+.2f}", fontsize=9)
    axes.axis("off")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "this_and_not_that.png", dpi=80)
