"""The errors a caller may want to catch.

::

    CarrotError
    ├── BackboneError            the model can't give one token per image patch in a known place
    │   ├── CheckpointError      the weights don't belong to this architecture, or can't be read
    │   └── HubUnreachableError  pretrained weights were asked for and the hub can't be reached
    ├── DataError                a data set's folder, files or labels are not what its format says
    │   └── UnreadableImageError one picture can't be decoded
    ├── EngineError              an engine can't be started or reached, or its workers were lost
    ├── IllConditionedError      a linear system is singular in float64 (also a ``ValueError``)
    ├── ModelError               a saved model is damaged, of a newer format, or needs what is not there
    ├── NotFittedError           the head was used before ``fit`` (also a ``ValueError``)
    └── StoreError               stored embeddings are damaged, or belong to other settings

A wrong value of an argument is a plain ``ValueError``, a wrong kind a plain ``TypeError``.
"""


class CarrotError(Exception):
    """Base of every error that CARROT defines."""


class BackboneError(CarrotError):
    """The model, or the input, can't give one token per image patch in a known place."""


class CheckpointError(BackboneError):
    """The checkpoint can't be read, or belongs to another architecture."""


class HubUnreachableError(BackboneError):
    """Pretrained weights were asked for, and the model hub can't be reached."""


class DataError(CarrotError):
    """A data set's folder, files or labels are not what its format says."""


class UnreadableImageError(DataError):
    """One picture can't be decoded; ``path`` says which."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class EngineError(CarrotError):
    """An engine isn't installed, can't be started or reached, or its workers were lost; the message says what to do."""


class IllConditionedError(CarrotError, ValueError):
    """A linear system is singular in float64; the message carries its condition number."""


class ModelError(CarrotError):
    """A saved model is damaged, of a newer format, or needs something that is not there."""


class NotFittedError(CarrotError, ValueError):
    """The head was used before ``fit``."""


class StoreError(CarrotError):
    """Stored embeddings are damaged, or were made with other settings."""
