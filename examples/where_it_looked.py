"""Where the model looked: four toy birds, and what each tile of them brings to the answer.

Usage: python examples/where_it_looked.py [where_it_looked.png]
"""

import sys

from matplotlib.figure import Figure

from carrot import Carrot
from carrot.data.toy import ToyBirds
from carrot.tiling import Tiling

birds = ToyBirds(n_train_per_class=8, n_test_per_class=1, n_species=6)
model = Carrot("toy", regions="tiles:3").fit(birds)

figure = Figure(figsize=(8, 4.4), layout="constrained")
for axes, i in zip(figure.subplots(2, 4).T, (48, 50, 51, 53), strict=True):
    picture = birds.image(i)
    answer = model.explain(picture)
    seen = Tiling.from_spec("tiles:3").pixel_map(answer.regions, picture.size).numpy()
    limit = abs(seen).max()
    axes[0].imshow(picture)
    axes[0].set_title(birds.classes[birds.records[i].label], fontsize=9)
    axes[1].imshow(picture.convert("L"), cmap="gray")
    axes[1].imshow(seen, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.6)
    axes[1].set_title(f"says {answer.target}", fontsize=9)
    axes[0].axis("off")
    axes[1].axis("off")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "where_it_looked.png", dpi=80)
