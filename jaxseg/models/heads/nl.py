"""Non-local head."""

from typing import ClassVar

from jaxtyping import Array, Float

from jaxseg.models.heads.fcn import FCNHead
from jaxseg.models.layers.non_local import MODES, NonLocal


class NLHead(FCNHead):
    """An FCN head with a non-local block in between (Wang et al. 2018, "Non-local Neural Networks").

    Attributes:
        reduction, use_scale, mode: As in `NonLocal`.
    """

    reduction: int = 2
    use_scale: bool = True
    mode: str = "embedded_gaussian"

    modes: ClassVar[tuple[str, ...]] = MODES

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.num_convs != 2:
            raise self.error("num_convs", "the non-local block is between two convolutions")
        if self.mode not in self.modes:
            raise self.error("mode", f"allowed: {self.modes}")

    def between(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """Adds what the other pixels say."""
        block = NonLocal(self.reduction, self.use_scale, self.mode, self.norm_cfg, name="nl_block")
        return block(x, train)
