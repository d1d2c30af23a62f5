"""Pictures with labels and a split: data sets on disk behind one ``Record`` type.

``open_dataset`` takes a path, and sees from the files what lies there, or one of these (the names are stable):

==================== ============= ================================================================ ==================
written              reader        what                                                             besides labels
==================== ============= ================================================================ ==================
toy                  ToyBirds      rendered birds, nothing on disk                                  parts, masks
cub:DIR              Cub           CUB-200-2011                                                     parts, boxes, masks
pets:DIR             Pets          Oxford-IIIT Pet                                                  masks
aircraft:DIR         Aircraft      FGVC-Aircraft 2013b, its variants                                boxes
cars:DIR             Cars          Stanford Cars                                                    boxes
flowers102:DIR       Flowers102    Oxford Flowers 102                                               masks
cifar10:DIR          Cifar10       CIFAR-10, binary version
cifar100:DIR         Cifar100      CIFAR-100, binary version, fine classes
csv:FILE_OR_DIR      CsvFolder     pictures listed in a CSV file
folder:DIR           ImageFolder   one folder per class, with or without train/ and test/
torchvision:Name:DIR Torchvision   a class of torchvision.datasets, files on disk already
hf:NAME_OR_DIR       HuggingFace   what the package datasets opens, from disk or from the hub
==================== ============= ================================================================ ==================

``DIR`` is the unpacked official folder, or the folder that contains it. Options (CUB cropped to its boxes, families of aircraft)
are the readers' own arguments. ``ToyBirds`` is in ``carrot.data.toy`` and imported by name only.
"""

from carrot.data.adapters import HuggingFace, Torchvision
from carrot.data.aircraft import Aircraft
from carrot.data.cars import Cars
from carrot.data.cifar import Cifar10, Cifar100
from carrot.data.csv_folder import CsvFolder
from carrot.data.cub import Cub
from carrot.data.flowers102 import Flowers102
from carrot.data.folder import ImageFolder
from carrot.data.images import open_image
from carrot.data.opening import open_dataset
from carrot.data.pets import Pets
from carrot.data.records import Box, ImageDataset, Record, Segmented, Split, split_indices, split_is_own

__all__ = [
    "Aircraft",
    "Box",
    "Cars",
    "Cifar10",
    "Cifar100",
    "CsvFolder",
    "Cub",
    "Flowers102",
    "HuggingFace",
    "ImageDataset",
    "ImageFolder",
    "Pets",
    "Record",
    "Segmented",
    "Split",
    "Torchvision",
    "open_dataset",
    "open_image",
    "split_indices",
    "split_is_own",
]
