"""A fitted model as one ONNX file, to deploy: backbone, graph, diffusion, readout, lift and head, nothing else needed.

The forward pass is written out again here as plain tensor formulas, without the checks that a graph of operators can't
hold; the file is held against the model itself before it is kept. Explanations, updates and preprocessing stay with
CARROT: the input is the model's own, (B, 3, img_h, img_w), normalised with the mean and standard deviation that the
file's metadata states. Of a model of tiles it is (B, R, 3, img_h, img_w): the boxes that the metadata states, each cut
from the upright picture and then resized, and last the whole picture, where it has a share.
"""

import copy
import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carrot import __version__
from carrot._display.extras import how_to_install
from carrot._vit.base import TimmBackbone
from carrot._vit.class_attention import last_attention
from carrot._vit.token_map import last_map, pooled_features
from carrot.backbone import TimmViTPatchBackbone
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.embedding.encoder import DTYPES
from carrot.embedding.view import TileView
from carrot.errors import ModelError
from carrot.evaluation.calibration import probabilities
from carrot.laplacian import chebyshev_coefficients
from carrot.lift import lift_from
from carrot.regions import RegionSet, grid_positions
from carrot.store.outputs import write_output
from carrot.tiling import Tiling

TOLERANCE = 1e-5  # of the largest logit
OPSET = 18
MAX_BYTES = 2**31 - 2**24  # of weights: what one ONNX file holds, less room for its graph
OFFERED = ("identity", "quadratic", "relu")  # of ``carrot._choices.LIFTS``


class Deployed(nn.Module):
    """Model inputs to logits and probabilities, float32 in and out, float64 from the tokens on.

    Raises:
        ModelError: The lift is not offered.
    """

    W: Tensor
    bias: Tensor
    space: Tensor
    Omega: Tensor
    upper: Tensor

    def __init__(self, backbone: TimmBackbone, dtype: torch.dtype, fitted: Fitted) -> None:
        super().__init__()
        s, head = fitted.setting, fitted.head
        name = lift_from(s.lift).name
        if name not in OFFERED:
            raise ModelError(f"ONNX is offered for the lifts {', '.join(OFFERED)}; this model has {s.lift}.")
        self.model, self.s, self.name = backbone.model, s, name
        self.reads_attention, self.K = backbone.attention and not s.is_tiled, backbone.num_prefix_tokens
        if isinstance(backbone, TimmViTPatchBackbone):
            self.norm = backbone.out_norm and backbone._timm_norm
            self.pools = "class token" if backbone.has_class_token else "mean"
        else:
            self.norm, self.pools = False, "timm"
        self.grid_hw, self.dtype = backbone.grid_hw, dtype
        self.temperature = fitted.temperature
        D = backbone.embed_dim
        W = head.W_star
        if name == "quadratic":  # vech: its sqrt 2 goes into the weights
            i, j = torch.triu_indices(D, D)
            W = W * torch.where(i == j, 1.0, 2.0).to(W).sqrt().unsqueeze(-1)
            self.register_buffer("upper", i * D + j)
        self.register_buffer("W", W)
        self.register_buffer("bias", head.bias)
        if s.is_tiled:
            shares = Tiling.from_spec(s.regions).shares
            n, P = len(shares), RegionSet.from_boxes(shares, shares).positions  # of features only the number counts
        else:
            gh, gw = s.grid_hw(self.grid_hw)
            n = gh * gw
            blank = RegionSet(torch.zeros(n, 1, dtype=torch.float64), grid_positions(gh, gw, torch.float64), (gh, gw))
            P = blank.isotropic_positions
        space = (P[:, None] - P[None]).square().sum(dim=-1) / (2.0 * s.sigma_spatial**2)
        self.register_buffer("space", space)
        self.rank = n + 2 * (
            (n * (n - 1) // 2 - 1) // 2
        )  # of the lower median among all entries, zeros of the diagonal first
        self.c = chebyshev_coefficients(s.t, torch.finfo(torch.float64).eps / 2) if s.t else ()
        if name == "relu":
            lift = lift_from(s.lift)
            eye = torch.eye(D, dtype=torch.float64)
            self.register_buffer("Omega", lift.features(eye) - lift.features(-eye))  # relu(x) - relu(-x) = x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, (B, C) each."""
        H, token, A = self._tiles(x) if self.s.is_tiled else self._tokens(x)
        s = self.s
        if s.coarsen > 1:
            H, A = self._blocks(H) / s.coarsen**2, None if A is None else self._blocks(A.unsqueeze(-1)).squeeze(-1)
        n = H.shape[1]
        u = torch.zeros_like(H[..., 0])
        if s.tau and A is not None:
            u = A.clamp_min(torch.finfo(torch.float64).tiny).log() * s.tau
        if s.power:
            norms = H.square().sum(dim=-1).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
            u = u + s.power * (norms.log() - 0.5 * math.log(H.shape[-1]))
        r = torch.exp(u) / n if s.readout == "sum" else torch.softmax(u, dim=-1)
        pi = self._diffuse(H, r) if s.t else r
        if s.global_share and token is not None:
            H = torch.cat([H, token.unsqueeze(1)], dim=1)
            pi = torch.cat([(1.0 - s.global_share) * pi, torch.full_like(pi[:, :1], s.global_share)], dim=1)
        if self.name == "quadratic":
            g = ((H * pi.unsqueeze(-1)).mT @ H).flatten(1).index_select(1, self.upper)
        elif self.name == "relu":
            g = (pi.unsqueeze(1) @ torch.relu(H @ self.Omega)).squeeze(1)
        else:
            g = (pi.unsqueeze(1) @ H).squeeze(1)
        logits = g @ self.W + self.bias
        return logits.float(), torch.softmax(logits / self.temperature, dim=-1).float()

    def _tokens(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        A = None
        if self.reads_attention:
            features, A = last_attention(self.model, x, self.K)
            H = features[:, self.K :]
        else:
            features, patches = last_map(self.model, x, norm=self.norm)
            H = patches.flatten(2).mT
        token = features[:, 0].to(self.dtype).double() if self.s.global_share else None
        return H.to(self.dtype).double(), token, None if A is None else A.double()

    def _tiles(self, x: Tensor) -> tuple[Tensor, Tensor | None, None]:
        inputs = x.flatten(0, 1)
        if self.pools == "timm":
            h = pooled_features(self.model, inputs)
        else:
            features, patches = last_map(self.model, inputs, norm=self.norm)
            h = features[:, 0] if self.pools == "class token" else patches.flatten(2).mean(dim=-1)
        H = h.to(self.dtype).double().reshape(-1, x.shape[1], h.shape[-1])
        return (H[:, :-1], H[:, -1], None) if self.s.global_share else (H, None, None)

    def _blocks(self, values: Tensor) -> Tensor:  # (B, N, k) -> (B, N / f^2, k), sums
        (gh, gw), f = self.grid_hw, self.s.coarsen
        v = values.reshape(-1, gh // f, f, gw // f, f, values.shape[-1])
        return v.sum(dim=(2, 4)).reshape(-1, (gh // f) * (gw // f), values.shape[-1])

    def _diffuse(self, H: Tensor, r: Tensor) -> Tensor:
        W = torch.exp(-self.space - (self._between_directions(H) if self.s.is_tiled else self._in_bandwidths(H)))
        root = W.sum(dim=-1, keepdim=True).rsqrt()  # (B, N, 1)
        v = r.unsqueeze(-1)
        previous, current, total = v, v, self.c[0] * v
        for k, c in enumerate(self.c[1:], start=1):
            S = root * (W @ (root * current))
            step = 2.0 * S - current if k == 1 else 4.0 * S - 2.0 * current - previous
            previous, current = current, step
            total = total + c * current
        return total.squeeze(-1)

    def _between_directions(self, H: Tensor) -> Tensor:  # feature_scale="direction"
        length = H.square().sum(dim=-1, keepdim=True).sqrt()
        D2 = _squared_distances(H / length.clamp_min(torch.finfo(torch.float64).tiny))
        return 0.5 / self.s.sigma_feature**2 * D2

    def _in_bandwidths(self, H: Tensor) -> Tensor:  # feature_scale="median"
        D2 = _squared_distances(H)
        m2 = torch.sort(D2.flatten(1), dim=1).values[:, self.rank].reshape(-1, 1, 1)
        # No less than the rounding of the product, or of the tokens: equal ones have kernel 1, unlike ones 0, as in
        # ``carrot.graph``.
        eps = torch.finfo(D2.dtype).eps
        rounding = (8.0 * eps) ** 2 * H.square().sum(dim=-1).amax(dim=1).reshape(-1, 1, 1)
        m2 = torch.maximum(m2, torch.maximum(4e4 * eps * D2[:, :1].amax(dim=-1, keepdim=True), rounding))
        return 0.5 / (self.s.sigma_feature**2 * m2.clamp_min(1e-200)) * D2


def _squared_distances(H: Tensor) -> Tensor:  # (B, N, D) -> (B, N, N)
    X = H - H.mean(dim=1, keepdim=True)
    norms = X.square().sum(dim=-1)
    D2 = (norms.unsqueeze(2) + norms.unsqueeze(1) - 2.0 * (X @ X.mT)).clamp_min(0.0)
    return D2 * (1.0 - torch.eye(D2.shape[-1], dtype=D2.dtype))


def export_onnx(classifier: Classifier, path: Path) -> dict[str, Any]:
    """Write the ONNX file, having held it against the model on random inputs in batches of 1 and 3.

    Returns:
        What a user of it must know.

    Raises:
        ModelError: A package is absent, the lift is not offered, the weights are too large for one file, the backbone
            can't be written as ONNX, or the file's logits differ by more than 1e-5 of the largest: then nothing is
            written.
        StoreError: The disk refuses.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(f"ONNX needs {error.name}: {how_to_install('onnx')}.") from error
    encoder, fitted, view = classifier.encoder, classifier.fitted, classifier.encoder.view
    dtype, t = DTYPES[encoder.dtype], view.backbone.transform
    if encoder.spec.precision != "float32":  # a runtime rounds each product its own way: 1e-2 of a token in bfloat16
        raise ModelError(
            f"The model's backbone computes in {encoder.spec.precision}, and ONNX is written of float32 alone: it is "
            'held to the same logits within 1e-5. Fit with precision="float32" for it.'
        )
    if view.backbone.device.type != "cpu":  # the file is made, and held against the model, on the processor
        view = copy.deepcopy(view)
        view.backbone.to("cpu")
    module = Deployed(view.backbone, dtype, fitted).eval()
    size = sum(x.numel() * x.element_size() for x in (*module.parameters(), *module.buffers()))
    if size > MAX_BYTES:
        raise ModelError(
            f"One ONNX file holds less than 2 GiB of weights; this model has {size / 2**30:.3g} GiB of them."
        )
    x = torch.randn(3, *view.inputs, 3, *t.input_hw, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory(prefix="carrot-onnx-") as folder:
        temporary = Path(folder) / "model.onnx"
        _trace(module, x[:2], temporary, encoder.spec.name)
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        file = onnx.load(str(temporary))
    expected = classifier.logits_of(view.encode(x))
    difference, largest = 0.0, float(expected.abs().max())
    for n in (3, 1):
        logits, p = (torch.from_numpy(values).double() for values in session.run(None, {"pixels": x[:n].numpy()}))
        own = expected[:n]
        apart = (logits - own).abs().max(), (p - probabilities(own, fitted.temperature)).abs().max() * largest
        difference = float(torch.stack([torch.tensor(difference).double(), *apart]).max())  # NaN stays NaN
    if not difference <= TOLERANCE * largest:
        hint = " Tokens may round the other way: fit with dtype='float32'." if dtype == torch.float16 else ""
        raise ModelError(
            f"{path}: not written: its logits would differ by {difference:.1e}, of {largest:.2g} at most.{hint}"
        )
    facts: dict[str, Any] = {
        "input": ["batch", *view.inputs, 3, *t.input_hw],
        "mean": list(t.mean),
        "std": list(t.std),
        "crop": "squash" if isinstance(view, TileView) else encoder.spec.crop,
        "crop_pct": 1.0 if isinstance(view, TileView) else t.crop_pct,
        "interpolation": t.interpolation,
        "classes": list(fitted.classes),
        "temperature": fitted.temperature,
        "fingerprint": encoder.fingerprint,
        "version": __version__,
        "opset": OPSET,
        "largest_difference": difference,
    }
    if isinstance(view, TileView):
        facts |= {"boxes": view.tiling.shares.tolist(), "whole_picture_last": view.has_whole}
    onnx.helper.set_model_props(file, {f"carrot.{name}": json.dumps(value) for name, value in facts.items()})
    write_output(path, file.SerializeToString())
    return facts


def _trace(module: Deployed, x: Tensor, path: Path, name: str) -> None:
    """Write ``module`` as it is, for any batch; ``x`` is a batch of 2 (of 1, the tracer would take it for all)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its own future
        try:
            torch.onnx.export(
                module,
                (x,),
                str(path),
                input_names=["pixels"],
                output_names=["logits", "probabilities"],
                dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # of many kinds, by what it can't translate
            why = (str(error).strip().splitlines() or [""])[0]
            raise ModelError(f"{name} can't be written as ONNX ({type(error).__name__}: {why}).") from error
