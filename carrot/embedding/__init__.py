"""Pictures -> tokens -> g: the frozen encoder, the cache of its tokens, and the stages wired by a setting."""

from typing import TYPE_CHECKING

from carrot._lazy import face

if TYPE_CHECKING:
    from carrot.embedding.cache import TokenCache
    from carrot.embedding.encoder import Encoder
    from carrot.embedding.filling import embed_dataset
    from carrot.embedding.setting import Setting
    from carrot.embedding.tokens import Tokens
    from carrot.embedding.trace import Trace

__all__ = ["Encoder", "Setting", "TokenCache", "Tokens", "Trace", "embed_dataset"]

__getattr__, __dir__ = face(
    __name__,
    {
        "cache": ("TokenCache",),
        "encoder": ("Encoder",),
        "filling": ("embed_dataset",),
        "setting": ("Setting",),
        "tokens": ("Tokens",),
        "trace": ("Trace",),
    },
)
