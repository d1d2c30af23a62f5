"""The toy data set and the backbone that goes with it: everything a demo needs, with no network.

Procedural birds in the manner of FunnyBirds (Hesse, Schaub-Meyer & Roth, ICCV 2023), in our own code: seven parts with
four or five variants each, species that differ in a single part, and the same picture without any part or object, so
that an explanation can be held against the truth. The embedded backbone is timm's ``test_vit`` with weights trained by
``scripts/train_toy_backbone.py`` on species that the demo never shows.
"""

from pathlib import Path

from carrot.data.toy.birds import ToyBirds
from carrot.data.toy.rendering import Rendered, part_map, render
from carrot.data.toy.scene import SIZE, Background, Light, Pose, Scene, SceneObject, sample_scene
from carrot.data.toy.species import PARTS, VARIANTS, Species, demo_species, training_species

__all__ = [
    "EMBEDDED_MODEL",
    "PARTS",
    "SIZE",
    "VARIANTS",
    "Background",
    "Light",
    "Pose",
    "Rendered",
    "Scene",
    "SceneObject",
    "Species",
    "ToyBirds",
    "demo_species",
    "embedded_checkpoint",
    "part_map",
    "render",
    "sample_scene",
    "training_species",
]

EMBEDDED_MODEL = "test_vit"
"""The timm architecture of the embedded backbone: 160 x 160 pixels, 10 x 10 patches of 16, D = 64."""


def embedded_checkpoint() -> Path:
    """Return the file of the embedded backbone's weights: safetensors, timm's parameter names, no classifier."""
    return Path(__file__).with_name("backbone.safetensors")
