"""Which patches a vision transformer's class token listens to: its attention in the last block, read without hooks.

::

    x      the tokens before the last block, prefix first      (``forward_intermediates``, before the final norm)  (1)
    q_h    the class token's query, k_hj and v_hj keys and values of all tokens, after the block's own norms,
           head h                                                                                                  (2)
    a_hj   = softmax_j(q_h^T k_hj / sqrt(d))                                                                       (3)
    A_j    = mean over heads of a_hj, for the patches j        (sums to less than 1: the rest goes to the prefix)  (4)

The block's own weights give (2). That the model uses them as (3) has it is not believed but checked, when the backbone
is built: a and v, taken through the rest of the block, must give the class token that the model itself gives. (Rotary
positions, say, would not.)
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from carrot._vit.token_map import TOLERANCE, looking_trained
from carrot.errors import BackboneError


def last_attention(model: Any, x: Tensor, num_prefix_tokens: int) -> tuple[Tensor, Float[Tensor, "B N"]]:
    """Return the final features (as the model's head receives them), and the class token's attention A to every patch.

    Both come from one pass.

    Args:
        model: A timm vision transformer that ``check_attention`` has accepted.
        x: Pictures (B, 3, img_h, img_w).
        num_prefix_tokens: K >= 1, class token first.
    """
    features, tokens = _before_last_block(model, x)
    a, _ = _class_attention(model.blocks[-1], tokens)
    return features, a.mean(dim=1)[:, num_prefix_tokens:]


@torch.no_grad()
def check_attention(name: str, model: Any, input_hw: tuple[int, int], num_prefix_tokens: int) -> None:
    """Check on one random picture that equation (3) is what the last block does, whatever its norms are.

    Raises:
        BackboneError: The model has no class token, or its last block isn't a plain one, or gives something else.
    """
    hint = "Choose scores that need no attention: `cosine_source`, or the mean readout."
    if getattr(model, "cls_token", None) is None or num_prefix_tokens < 1:
        raise BackboneError(f"{name} has no class token whose attention could say which patches count. {hint}")
    weight = next(model.parameters())
    x = torch.randn(1, 3, *input_hw, generator=torch.Generator().manual_seed(0)).to(weight)
    try:
        with looking_trained(model):
            features, tokens = _before_last_block(model, x)
            ours = _class_token(model.blocks[-1], tokens)
            theirs = model.forward_intermediates(
                x, indices=[-1], norm=False, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
            )[0][1][:, 0]
            whole = model.forward_features(x)
            difference = max(
                float((ours - theirs).norm() / theirs.norm()), float((features - whole).norm() / whole.norm())
            )
    except Exception as error:  # other kinds of blocks raise many kinds of errors
        raise BackboneError(
            f"{name}'s last block is none whose attention can be read ({type(error).__name__}: {error}). {hint}"
        ) from error
    if not difference <= TOLERANCE:
        raise BackboneError(
            f"{name}'s last block does more than plain attention: reading it gives something else, by "
            f"{difference:.1e}. {hint}"
        )


def _before_last_block(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:  # -> (B, K + N, D), (B, K + N, D)
    features, maps = model.forward_intermediates(
        x, indices=[len(model.blocks) - 2], norm=False, output_fmt="NLC", return_prefix_tokens=True
    )
    patches, prefix = maps[0]
    return features, torch.cat([prefix, patches], dim=1)


def _class_attention(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:  # -> (B, heads, K + N), (B, heads, K + N, d)
    """Return equation (3), and the values."""
    attn = block.attn
    B, T, _ = tokens.shape
    qkv = attn.qkv(block.norm1(tokens)).reshape(B, T, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    q, k = attn.q_norm(q[:, :, :1]), attn.k_norm(k)
    return torch.softmax((attn.scale * q) @ k.mT, dim=-1).squeeze(-2), v


def _class_token(block: Any, tokens: Tensor) -> Tensor:  # (B, K + N, D) -> (B, D)
    """Return the class token after the block, by way of equation (3)."""
    attn, x = block.attn, tokens[:, :1]
    a, v = _class_attention(block, tokens)
    out = getattr(attn, "norm", torch.nn.Identity())((a.unsqueeze(-2) @ v).flatten(1).unsqueeze(1))
    if getattr(attn, "gate", None) is not None:
        out = out * attn.gate(block.norm1(x)).sigmoid()
    x = x + block.ls1(attn.proj(out))
    return (x + block.ls2(block.mlp(block.norm2(x)))).squeeze(1)
