"""Six most suspicious labels of a data set in which some were planted: what it says, and what the others say.

Usage: python examples/wrong_labels.py [wrong_labels.png]
"""

import sys

from matplotlib.figure import Figure

from carrot import Carrot
from carrot.data.toy import ToyBirds

birds = ToyBirds(n_train_per_class=20, n_test_per_class=1, n_species=6, wrong_labels=0.05)
model = Carrot("toy", regions="tiles:2").fit(birds)
places = {record.id: i for i, record in enumerate(birds.records)}

figure = Figure(figsize=(8, 5.6), layout="constrained")
for axes, suspect in zip(figure.subplots(2, 3).flat, model.audit().suspects[:6], strict=True):
    i = places[suspect.id]
    axes.imshow(birds.image(i))
    axes.set_title(
        f"labelled {suspect.label}\nothers say {suspect.suggested}", fontsize=9, color="C3" if i in birds.wrong else "k"
    )
    axes.axis("off")
figure.suptitle(f"{len(birds.wrong)} labels of 120 are wrong; red: one of them", fontsize=10)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "wrong_labels.png", dpi=80)
