"""What each training picture holds up: the logit promised without it, and the logit of a model fitted without it.

Usage: python examples/forgotten.py [forgotten.png]
"""

import sys

from matplotlib.figure import Figure

from carrot import Carrot
from carrot.data.toy import ToyBirds

birds = ToyBirds(n_train_per_class=6, n_test_per_class=1, n_species=6)
model = Carrot("toy", regions="tiles:3").fit(birds)
picture = birds.image(37)
parts, g = model.explain(picture).parts, model.trace(picture).g
promised = (parts.logit - parts.removal).tolist()  # of all 36 at once
measured = [float(model.head_.without(i).predict(g)[parts.target]) for i in range(36)]

figure = Figure(figsize=(7, 3.6), layout="constrained")
left, right = figure.subplots(1, 2, width_ratios=(2, 3))
left.imshow(picture)
left.set_title(f"says {model.predict(picture)[0]}, logit {parts.logit:.3f}", fontsize=9)
left.axis("off")
right.plot(promised, measured, "o", ms=4)
right.axline((parts.logit, parts.logit), slope=1, lw=0.8, color="k")
right.set(xlabel="logit promised without one picture", ylabel="logit, fitted again without it")
worst = max(abs(a - b) for a, b in zip(promised, measured, strict=True))
right.set_title(f"36 training pictures; largest difference {worst:.0e}", fontsize=9)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "forgotten.png", dpi=80)
