"""A fitted model as one ONNX file, for deployment: backbone, graph, diffusion, readout, lift and head, with nothing else needed.

The forward pass is written out again here as plain tensor formulas, without the checks that a graph of operators can't hold; the file
is held against the model itself before it is kept. Explanations, updates and preprocessing stay with CARROT: the input is the
model's own, (B, 3, img_h, img_w), normalised with the mean and standard deviation that the file's metadata states.
"""

import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carrot.class_attention import last_attention
from carrot.encoder import DTYPES, Encoder
from carrot.errors import ModelError
from carrot.evaluation.calibration import probabilities
from carrot.fitted import Fitted
from carrot.lift import lift_from
from carrot.operator import chebyshev_coefficients
from carrot.regions import RegionSet, grid_positions
from carrot.stages import embed_tokens
from carrot.token_map import last_map

TOLERANCE = 1e-5  # of the largest logit
OPSET = 18
LIFTS = ("identity", "quadratic", "relu")


class Deployed(nn.Module):
    """Model inputs to logits and probabilities, float32 in and out, float64 from the tokens on.

    Raises:
        ModelError: The lift is not offered.
    """

    W: Tensor
    bias: Tensor
    space: Tensor
    Omega: Tensor

    def __init__(self, encoder: Encoder, fitted: Fitted) -> None:
        super().__init__()
        s, head, backbone = fitted.setting, fitted.head, encoder.backbone
        name = lift_from(s.lift).name
        if name not in LIFTS:
            raise ModelError(f"ONNX is offered for the lifts {', '.join(LIFTS)}; this model has {s.lift}.")
        self.model, self.s, self.name = backbone.model, s, name
        self.reads_attention, self.K = bool(backbone.attention), backbone.num_prefix_tokens
        self.grid_hw, self.dtype = backbone.grid_hw, DTYPES[encoder.dtype]
        self.temperature = fitted.temperature
        D = backbone.embed_dim
        W = head.W_star
        if name == "quadratic":  # one full matrix a class: vech with its sqrt 2 undone
            i, j = torch.triu_indices(D, D)
            root = torch.where(i == j, torch.ones((), dtype=W.dtype), torch.full((), 2.0**0.5, dtype=W.dtype))
            full = W.new_zeros(D, D, W.shape[1])
            full[i, j] = W * root.unsqueeze(-1)
            W = full.flatten(0, 1)
        self.register_buffer("W", W)
        self.register_buffer("bias", head.bias)
        gh, gw = (side // s.coarsen for side in self.grid_hw)
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
        H, token, A = self._tokens(x)
        s = self.s
        if s.coarsen > 1:
            H, A = self._blocks(H) / s.coarsen**2, None if A is None else self._blocks(A.unsqueeze(-1)).squeeze(-1)
        n = H.shape[1]
        if s.tau and A is not None:
            power = A.clamp_min(torch.finfo(torch.float64).tiny).log() * s.tau
            r = torch.softmax(power, dim=-1)
        else:
            r = torch.ones_like(H[..., 0]) / n
        pi = self._diffuse(H, r) if s.t else r
        if s.global_share and token is not None:
            H = torch.cat([H, token.unsqueeze(1)], dim=1)
            pi = torch.cat([(1.0 - s.global_share) * pi, torch.full_like(pi[:, :1], s.global_share)], dim=1)
        if self.name == "quadratic":
            g = ((H * pi.unsqueeze(-1)).mT @ H).flatten(1)
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
            features, patches = last_map(self.model, x, norm=True)
            H = patches.flatten(2).mT
        token = features[:, 0].to(self.dtype).double() if self.s.global_share else None
        return H.to(self.dtype).double(), token, None if A is None else A.double()

    def _blocks(self, values: Tensor) -> Tensor:  # (B, N, k) -> (B, N / f^2, k), sums
        (gh, gw), f = self.grid_hw, self.s.coarsen
        v = values.reshape(-1, gh // f, f, gw // f, f, values.shape[-1])
        return v.sum(dim=(2, 4)).reshape(-1, (gh // f) * (gw // f), values.shape[-1])

    def _diffuse(self, H: Tensor, r: Tensor) -> Tensor:
        X = H - H.mean(dim=1, keepdim=True)
        norms = X.square().sum(dim=-1)
        D2 = (norms.unsqueeze(2) + norms.unsqueeze(1) - 2.0 * (X @ X.mT)).clamp_min(0.0)
        D2 = D2 * (1.0 - torch.eye(D2.shape[-1], dtype=D2.dtype))
        m2 = torch.sort(D2.flatten(1), dim=1).values[:, self.rank].reshape(-1, 1, 1)
        W = torch.exp(-self.space - D2 / (2.0 * self.s.sigma_feature**2 * m2.clamp_min(1e-300)))
        root = W.sum(dim=-1, keepdim=True).rsqrt()  # (B, N, 1)
        v = r.unsqueeze(-1)
        previous, current, total = v, v, self.c[0] * v
        for k, c in enumerate(self.c[1:], start=1):
            S = root * (W @ (root * current))
            step = 2.0 * S - current if k == 1 else 4.0 * S - 2.0 * current - previous
            previous, current = current, step
            total = total + c * current
        return total.squeeze(-1)


def export_onnx(encoder: Encoder, fitted: Fitted, path: Path) -> dict[str, Any]:
    """Write the ONNX file, having held it against the model on random inputs in batches of 1 and 3; return what a user of it must know.

    Raises:
        ModelError: A package is absent, the lift is not offered, or the file's logits differ by more than 1e-5 of the largest: then
            nothing is written.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(f"ONNX needs {error.name}: pip install 'carrot-attribution[onnx]'.") from error
    module = Deployed(encoder, fitted).eval()
    t = encoder.backbone.transform
    x = torch.randn(3, 3, *t.input_hw, generator=torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".onnx-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its own future
        temporary = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            (x[:2],),
            str(temporary),
            input_names=["pixels"],
            output_names=["logits", "probabilities"],
            dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        expected = fitted.head.predict(embed_tokens(encoder.encode(x), fitted.setting))
        difference = 0.0
        for batch in (x, x[:1]):
            logits, p = (torch.from_numpy(values).double() for values in session.run(None, {"pixels": batch.numpy()}))
            own = expected[: len(batch)]
            difference = max(difference, float((logits - own).abs().max()))
            difference = max(
                difference, float((p - probabilities(own, fitted.temperature)).abs().max()) * float(own.abs().max())
            )
        largest = float(expected.abs().max())
        if not difference <= TOLERANCE * largest:
            raise ModelError(
                f"{path}: not written: its logits would differ by {difference:.1e}, of {largest:.2g} at most."
            )
        facts: dict[str, Any] = {
            "input": ["batch", 3, *t.input_hw],
            "mean": list(t.mean),
            "std": list(t.std),
            "crop": encoder.spec.crop,
            "classes": list(fitted.classes),
            "temperature": fitted.temperature,
            "fingerprint": encoder.fingerprint,
            "opset": OPSET,
            "largest_difference": difference,
        }
        file = onnx.load(str(temporary))
        onnx.helper.set_model_props(file, {f"carrot.{name}": json.dumps(value) for name, value in facts.items()})
        onnx.save(file, str(temporary))
        os.replace(temporary, path)
    return facts
