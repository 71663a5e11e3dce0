"""DDRNet head."""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.models.heads.branches import BranchHead


class DDRHead(BranchHead):
    """A convolution before the classifier; another one learns from the finer branch (Hong et al. 2021, "DDRNet").

    It takes the backbone's two maps, whatever `in_index` says; `in_channels` is that of the second, and the first has
    half as many. The two losses are those of the second and of the first.
    """

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> Float[Array, "b h w out_channels"] | dict[str, Float[Array, "b h w out_channels"]]:
        """Returns logits; while training {"context": logits, "spatial": the finer branch's}."""
        self.check()
        self.check_losses(2)
        spatial, context = self.maps(features, (self.in_channels // 2, self.in_channels))
        context = self.classify(self.decode_branch(context, train, self.channels, "head_0", "head_1"), train)
        if not (train or self.is_initializing()):
            return context
        spatial = self.decode_branch(spatial, train, self.channels, "aux_head_0", "aux_head_1")
        return {"context": context, "spatial": self.classifier(spatial, self.logit_channels, "aux_cls_seg")}
