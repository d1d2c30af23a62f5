"""Files that survive a kill: embeddings in shards, models, certificates, and what a user asked for.

Importing this package loads nothing: each name brings its module when it is first used.
"""

from typing import TYPE_CHECKING

from carrot._lazy import face

if TYPE_CHECKING:
    from carrot.store.shards import EmbeddingStore
    from carrot.store.tensors import save_tensors

__all__ = ["EmbeddingStore", "save_tensors"]

__getattr__, __dir__ = face(__name__, {"shards": ("EmbeddingStore",), "tensors": ("save_tensors",)})
