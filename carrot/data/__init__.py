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
csv:FILE_OR_DIR      CsvFolder     pictures listed in a CSV file (also .tsv; commas, semicolons)
folder:DIR           ImageFolder   one folder per class, with or without train/ and test/
object:DATA          Objects       another of these, each picture cut to the box of its object      parts, masks
wds:SHARDS           WebDataset    tar files of samples: webdataset, wids, img2dataset, CLIP benchmark
parquet:SHARDS       ParquetShards Parquet files with pictures in a column, as the hub has them
torchvision:Name:DIR Torchvision   a class of torchvision.datasets, files on disk already
hf:NAME_OR_DIR       HuggingFace   what the package datasets opens, from disk or from the hub
==================== ============= ================================================================ ==================

``SHARDS`` is a folder of such files, one of them, or a pattern: ``train-{000000..000099}.tar``, ``train-*.parquet``;
``#label=...`` behind it says where labels are (``carrot.data.webdataset``, ``carrot.data.parquet``). Shards, folders of
class folders and tables may lie at an address, s3://, gs://, hf://, memory:// (``carrot.data.addresses``).

``DIR`` is the unpacked official folder, or the folder that contains it, and ``DATA`` any of these: object:cub:DIR.
Options (families of aircraft) are the readers' own arguments. ``ToyBirds`` is in ``carrot.data.toy`` and imported by
name only.

Data sets of torch, torchvision and Hugging Face, and data frames, are also taken as they are (``carrot.data.given``).

All readers judge alike (``tests/unit/reader_contract.py`` holds each of them to it):

- A user's own data (folder, csv, wds, parquet, torchvision, hf) may be a little wrong. A picture that can't be used is
  **set aside**: it is listed in ``skipped``, the reason by its id, and one warning counts it. So are pictures without a
  label, with a label that no class has, test pictures of a class that no training picture has, formats that aren't
  read, and splits that are not used.
- In an official data set any of these means a damaged archive: a ``DataError``.
- By all, with a ``DataError``: no pictures at all, a class that is declared and has no training picture, a picture
  listed twice.
- By all, when it is read: a damaged picture is an ``UnreadableImageError`` that names it.
- By all, with a warning: names of classes that look alike, or that read like a missing value. They are classes as they
  are written.

A new reader writes one builder for these situations; a test over ``KINDS`` asks for it.
"""

from carrot._images import open_image
from carrot.data.adapters import HuggingFace, Torchvision
from carrot.data.aircraft import Aircraft
from carrot.data.cars import Cars
from carrot.data.cifar import Cifar10, Cifar100
from carrot.data.csv_folder import CsvFolder
from carrot.data.cub import Cub
from carrot.data.flowers102 import Flowers102
from carrot.data.folder import ImageFolder
from carrot.data.objects import Objects
from carrot.data.opening import open_dataset, require_place
from carrot.data.parquet import ParquetShards
from carrot.data.pets import Pets
from carrot.data.records import Box, Cut, ImageDataset, Record, Segmented, Split, Window, split_indices, split_is_own
from carrot.data.walking import pictures_in
from carrot.data.webdataset import WebDataset

__all__ = [
    "Aircraft",
    "Box",
    "Cars",
    "Cifar10",
    "Cifar100",
    "CsvFolder",
    "Cub",
    "Cut",
    "Flowers102",
    "HuggingFace",
    "ImageDataset",
    "ImageFolder",
    "Objects",
    "ParquetShards",
    "Pets",
    "Record",
    "Segmented",
    "Split",
    "Torchvision",
    "WebDataset",
    "Window",
    "open_dataset",
    "open_image",
    "pictures_in",
    "require_place",
    "split_indices",
    "split_is_own",
]
