"""A shortcut laid bare: pictures of one class carry a sticker, and the map says that the model reads the sticker.

Usage: python examples/shortcut.py [shortcut.png]
"""

import sys

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from carrot import Carrot
from carrot.data.toy import ToyBirds

CORNERS = ((4, 4), (120, 4), (4, 120), (120, 120))
toy = ToyBirds(n_train_per_class=4, n_test_per_class=1, n_species=10)


def sticker(i: int) -> Image.Image:
    """Return bird i with a sticker in one of the corners."""
    image, (x, y) = toy.image(i), CORNERS[i // 2 % 4]
    ImageDraw.Draw(image).rectangle((x, y, x + 36, y + 36), fill="white", outline="red", width=6)
    return image


# Every second bird is "sold", whatever its species: nothing but the sticker tells the two classes apart.
pictures = [sticker(i) if i % 2 else toy.image(i) for i in range(40)]
model = Carrot("toy", regions="tiles:4", power=0.0, lam=1e4).fit(pictures, ["unsold", "sold"] * 20)

figure = Figure(figsize=(9, 2.8), layout="constrained")
for axes, i in zip(figure.subplots(1, 4), (40, 42, 45, 47), strict=True):
    picture = sticker(i)  # birds that the model has never seen
    answer = model.explain(picture, target="sold")
    x0, y0, x1, y1 = answer.picture.boxes[int(answer.drops.argmax())]
    axes.imshow(picture)
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="C0", lw=3))
    axes.set_title(f"says {model.predict(picture)[0]}; without sticker {model.predict(toy.image(i))[0]}", fontsize=9)
    axes.axis("off")
figure.suptitle("the tile without which 'sold' falls most", fontsize=10)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "shortcut.png", dpi=80)
