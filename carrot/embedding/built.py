"""The backbone that a description means: built when it is first needed, and whether it is the one that was meant."""

import warnings
from collections.abc import Callable
from copy import copy

from carrot._vit.base import TimmBackbone
from carrot.embedding.spec import TOY, BackboneSpec
from carrot.errors import BackboneError, ModelError


class Built:
    """A description of a backbone and what was built of it, for one input or another.

    Args:
        spec: The description.
        given: The backbone itself, where one was given: nothing is built then.
        device: Where it runs.
        expected: What its fingerprint must be; None: any.
        rebuilds: Whether the description is known to build it again; None: it is tried.

    Raises:
        ModelError: The backbone that was given has another fingerprint.
    """

    def __init__(
        self, spec: BackboneSpec, given: TimmBackbone | None, device: str, expected: str | None, rebuilds: bool | None
    ) -> None:
        self.spec, self.given, self._device, self._expected = spec, given, device, expected
        self._rebuilds: tuple[str, bool] | bool | None = rebuilds  # tried: of which state of its weights
        self._tile_size: int | None = None
        self._by_input: dict[int | None, TimmBackbone] = {}  # ``at`` shares them
        if given is not None:
            self._require_same(given)

    def at(self, tile_size: int | None, same: bool) -> "Built":
        """Return it for another input: tiles of a size, or whole pictures (None).

        Args:
            tile_size: Of ``BackboneSpec.build``.
            same: Whether the fingerprint that is expected is known to be that of this input.
        """
        made = copy(self)
        made._tile_size = tile_size
        if not same and self.given is None and tile_size != self._tile_size:
            made._expected = None  # the weights are the same, the fingerprint is not
        return made

    def backbone(self, prepare: Callable[[TimmBackbone], object]) -> TimmBackbone:
        """Return it, built if it wasn't; ``prepare`` is called once with each.

        Raises:
            ModelError: Its weights or its preprocessing are not those that a model was fitted with.
            BackboneError: As ``BackboneSpec.build``.
        """
        if self._tile_size not in self._by_input:
            found = self.given
            if found is None:
                if self._rebuilds is False and self.spec.checkpoint is None:
                    raise ModelError(
                        f"The model was fitted with a backbone that its description ({self.spec.name}) doesn't build: "
                        "its weights or its preprocessing were set by hand. Give it: `backbone=` of `Carrot.load`."
                    )
                found = self._require_same(self._build(self._device))
            prepare(found)
            self._by_input[self._tile_size] = found
        return self._by_input[self._tile_size]

    @property
    def foretold(self) -> str | None:
        """The fingerprint that is known before it is built; None: there is none, or it is there."""
        return None if self.given is not None or self._tile_size in self._by_input else self._expected

    def rebuilds(self, fingerprint: Callable[[], str]) -> bool:
        """Return whether the description builds this very backbone again, whose fingerprint is asked for if need be.

        Of one that was given it is tried, once for each state of its weights.
        """
        if isinstance(self._rebuilds, bool):
            return self._rebuilds
        now = fingerprint()
        if self._rebuilds is None or self._rebuilds[0] != now:
            try:
                same = self._build("cpu").fingerprint() == now
            except (BackboneError, ModelError):  # the hub can't be reached, the file is gone
                same = False
            self._rebuilds = (now, same)
            if not same:
                warnings.warn(
                    f"{self.spec.name}: this backbone can't be built again from its name, file and settings: its "
                    "weights or its preprocessing were set by hand. Keep it: a model saved with it is read with "
                    "`Carrot.load(folder, backbone=...)`.",
                    stacklevel=6,
                )
        return self._rebuilds[1]

    def _build(self, device: str) -> TimmBackbone:
        if self._tile_size is None:
            return self.spec.build(device)
        return self.spec.build(device, attention=False, tile_size=self._tile_size)

    def _require_same(self, backbone: TimmBackbone) -> TimmBackbone:
        if self._expected is not None and backbone.fingerprint() != self._expected:
            give = "the file as `checkpoint=`, or the object as `backbone=`"
            if self.spec.name == TOY:  # whose weights come with this version of the package
                give = "a TimmViTPatchBackbone of those weights as `backbone=`; or fit again"
            raise ModelError(
                f"The model was fitted on tokens of {self.spec.name} with fingerprint {self._expected[:12]}; these "
                f"weights, or this preprocessing, give {backbone.fingerprint()[:12]}. Give what it was fitted with: "
                f"{give}."
            )
        return backbone
