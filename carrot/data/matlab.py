"""Matlab's .mat files up to version 7 as plain arrays: numbers, texts and structures are read, nothing is run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carrot.data.tables import repair
from carrot.errors import DataError


def read_mat(file: Path, names: Sequence[str], archive: str) -> list[NDArray[Any]]:
    """Return the variables ``names`` of a .mat file, each as an array of one axis (a structure array has named fields).

    Raises:
        DataError: The file is missing, is no .mat file, has one of the variables not, or with more than one axis.
    """
    from scipy.io import loadmat

    if not file.is_file():
        raise DataError(f"{file}: there is no such file. Unpack the official {archive} archive again.")
    try:
        found = loadmat(file, appendmat=False, squeeze_me=True, variable_names=list(names))
    except Exception as error:  # scipy raises almost anything on damaged files
        reason = str(error) or type(error).__name__
        raise DataError(f"{file}: can't be read as a .mat file: {reason}. {repair(archive)}") from error
    for name in names:
        if name not in found:
            raise DataError(f"{file}: has no variable {name!r}. {repair(archive)}")
    values = [np.atleast_1d(np.asarray(found[name])) for name in names]
    for name, value in zip(names, values, strict=True):
        if value.ndim != 1:
            raise DataError(f"{file}: {name!r} must be a row or a column; got shape {value.shape}. {repair(archive)}")
    return values


def whole(value: object, where: str, archive: str) -> int:
    """Return a whole number >= 0 that Matlab may have stored as floating point.

    Raises:
        DataError: It is something else.
    """
    number = np.asarray(value)
    if number.ndim or number.dtype.kind not in "uif" or not (number >= 0 and number == np.floor(number) < np.inf):
        raise DataError(f"{where} must be a whole number; got {value!r}. {repair(archive)}")
    return int(number)


def text(value: object, where: str, archive: str) -> str:
    """Return a text that isn't empty.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} must be a text; got {value!r}. {repair(archive)}")
    return value.strip()
