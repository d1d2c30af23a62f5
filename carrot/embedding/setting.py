"""What a picture's embedding is made with, beside the backbone."""

from typing import NamedTuple


class Setting(NamedTuple):
    """What a picture's embedding is made with. Its defaults are mean pooling of the tokens as they are.

    Attributes:
        lift: As ``carrot.lift.lift_from`` reads it.
        tau: Power of the class token's attention in the readout; 0 is the mean.
        sigma_spatial, sigma_feature: Bandwidths of the graph; without effect at t = 0.
        t: Diffusion time; 0 is no diffusion.
        global_share: Weight of the class token as a global region; 0: regions only.
        coarsen: Blocks of ``coarsen`` x ``coarsen`` patches are averaged into one region each; 1: every patch is a region.
    """

    lift: str = "identity"
    tau: float = 0.0
    sigma_spatial: float = 0.5
    sigma_feature: float = 1.0
    t: float = 0.0
    global_share: float = 0.0
    coarsen: int = 1

    def __str__(self) -> str:
        """Return it in a few words."""
        graph = f", sigma_s {self.sigma_spatial:g}, sigma_f {self.sigma_feature:g}, t {self.t:g}" if self.t else ", t 0"
        share = f", class token {self.global_share:g}" if self.global_share else ""
        blocks = f", blocks of {self.coarsen} x {self.coarsen}" if self.coarsen > 1 else ""
        return f"{self.lift}, tau {self.tau:g}{graph}{share}{blocks}"
