"""A model before it is built: which tokens it will give, which weights it wants, and how they get into it.

Whether a model gives patch tokens, and whether they tile its input, is known before a single weight is fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carrot._vit.checkpoints import compare, hub_unreachable, is_network_failure, read_state_dict, require_hub
from carrot._vit.token_map import KINDS_THAT_WORK, Layout, require_tiling, survey, survey_pooled
from carrot.errors import BackboneError, CheckpointError


@dataclass(frozen=True)
class Blueprint:
    """What a model will be, found without its weights: a pass on the meta device, which computes shapes only.

    Attributes:
        full_name: ``architecture.tag``, or the name as given where it names a source of its own.
        create_model: timm's function.
        options: What it is called with.
        config: timm's configuration of the model and its preprocessing.
        input_hw: Size of the input, in pixels.
        layout: Where the patch tokens are.
        shapes: Names and shapes of all weights but the head's.
    """

    full_name: str
    create_model: Callable[..., Any]
    options: dict[str, Any]
    config: dict[str, Any]
    input_hw: tuple[int, int]
    layout: Layout
    shapes: dict[str, torch.Size]

    @classmethod
    def of(
        cls,
        name: str,
        create_model: Callable[..., Any],
        img_size: tuple[int, int] | None = None,
        out_norm: bool = True,
    ) -> "Blueprint":
        """Return the blueprint of a model that timm knows, at its own input size or another.

        Raises:
            BackboneError: A model without patch tokens, or an input that its patches don't tile.
            HubUnreachableError: The name leads to the hub, and the hub doesn't answer.
        """
        look = partial(survey, out_norm=out_norm)
        plan = cls._at(name, create_model, None, look)
        if img_size is None:
            plan.layout.require_tiles(name, plan.input_hw)
            return plan
        # The patch at its own size is the rule: a hybrid pads what doesn't fit, and then states another patch.
        patch_hw = plan.layout.patch_hw
        require_tiling(name, img_size, patch_hw)
        plan = cls._at(name, create_model, img_size, look)
        replace(plan.layout, patch_hw=patch_hw).require_tiles(name, img_size)
        return plan

    @classmethod
    def of_pooled(
        cls, name: str, create_model: Callable[..., Any], img_size: tuple[int, int] | None = None
    ) -> "Blueprint":
        """Return the blueprint of a model that gives one feature of its input.

        Raises:
            BackboneError: It doesn't, for an input of this size.
            HubUnreachableError: The name leads to the hub, and the hub doesn't answer.
        """
        return cls._at(name, create_model, img_size, survey_pooled)

    @classmethod
    def _at(
        cls,
        name: str,
        create_model: Callable[..., Any],
        img_size: tuple[int, int] | None,
        look: Callable[[str, Any, tuple[int, int]], Layout],
        device: str = "meta",
    ) -> "Blueprint":
        try:
            model, options = _sketch(name, create_model, img_size, device)
            config = dict(model.pretrained_cfg)
            channels, img_h, img_w = config["input_size"]
            if channels != 3:
                raise BackboneError(f"{name} takes {channels} channels; pictures have 3. {KINDS_THAT_WORK}")
            input_hw = img_size or (int(img_h), int(img_w))
            layout = look(name, model, input_hw)
        except BackboneError as error:
            if device == "meta" and "meta tensor" in str(error):  # some models, and older timm, need real numbers
                return cls._at(name, create_model, img_size, look, "cpu")
            raise
        tag = f".{config['tag']}" if config.get("tag") else ""
        full_name = name if ":" in name else f"{config['architecture']}{tag}"
        shapes = {key: value.shape for key, value in model.state_dict().items()}
        return cls(full_name, create_model, options, config, input_hw, layout, shapes)

    def build(self, **options: Any) -> nn.Module:
        """Return the model without a head."""
        model: nn.Module = self.create_model(**self.options, num_classes=0, **options)
        return model

    def fetch(self) -> nn.Module:
        """Return the model with timm's weights. With its own head on, timm loads strictly; then the head goes.

        Raises:
            BackboneError: timm publishes none, or what came doesn't fit.
            HubUnreachableError: They are not on this machine, and the hub doesn't answer.
        """
        repo_id = self.config.get("hf_hub_id")
        if not (repo_id or self.config.get("url") or self.config.get("file")):
            raise BackboneError(
                f"timm publishes no weights for {self.full_name}. Pass checkpoint=FILE, or pretrained=False for random"
                " weights."
            )
        if repo_id:
            require_hub(repo_id, self.full_name)
        try:
            model: Any = self.create_model(**self.options, pretrained=True)
        except Exception as error:  # whatever the hub's client and timm's loader raise
            if is_network_failure(error):
                raise hub_unreachable(self.full_name, type(error).__name__) from error
            raise BackboneError(f"The weights of {self.full_name} can't be fetched and loaded: {error}") from error
        model.reset_classifier(0)
        headless: nn.Module = model
        return headless

    def load(self, path: Path) -> nn.Module:
        """Return the model with the weights of a file: every one but the head's, and no others.

        timm's own filter for the architecture resamples position tables and translates foreign names; with as many
        classes stated in its configuration as the model has (none), timm then loads strictly.

        Raises:
            CheckpointError: The file can't be read, or holds another architecture's weights.
        """
        classifiers = self.config.get("classifier") or "head"
        heads = tuple(f"{c}." for c in ((classifiers,) if isinstance(classifiers, str) else classifiers))
        state = {key: value for key, value in read_state_dict(path).items() if not key.startswith(heads)}
        counters = {key for key in self.shapes if key.endswith(".num_batches_tracked")}  # which no answer depends on
        difference = compare(state, {key: shape for key, shape in self.shapes.items() if key not in counters})
        refusal = f"{path} does not hold the weights of {self.full_name}: {difference}."
        if difference.is_fatal:
            raise CheckpointError(refusal)
        overlay = {"state_dict": state, "num_classes": 0, "custom_load": False, "source": ""}
        try:
            model: Any = self.build(pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # the filters of foreign formats raise anything
            raise CheckpointError(f"{refusal} ({type(error).__name__}: {str(error)[:200]})") from error
        model.pretrained_cfg.pop("state_dict", None)  # timm would keep a second copy
        lost = [
            key
            for key, value in model.state_dict().items()
            if key in state and state[key].shape == value.shape and not value.equal(state[key].to(value.dtype))
        ]
        if lost:
            raise CheckpointError(f"{path} was not loaded whole into {self.full_name}: not {', '.join(lost[:3])}.")
        loaded: nn.Module = model
        return loaded


def _sketch(
    name: str, create_model: Callable[..., Any], img_size: tuple[int, int] | None, device: str
) -> tuple[Any, dict[str, Any]]:
    """Build the model without weights; a model that takes any size may have no ``img_size`` to pass."""
    plain: dict[str, Any] = {"model_name": name}
    failure: Exception | None = None
    for options in [plain] if img_size is None else [{**plain, "img_size": img_size}, plain]:
        try:
            with torch.device(device):
                return create_model(**options, num_classes=0).eval(), options
        except Exception as error:  # TypeError: no such argument; AssertionError: MViTv2; the rest is told below
            failure = failure or error
    if is_network_failure(failure):
        raise hub_unreachable(name, type(failure).__name__) from failure
    raise BackboneError(f"timm can't build {name} with img_size={img_size}: {failure}. {KINDS_THAT_WORK}") from failure
