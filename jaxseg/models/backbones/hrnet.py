"""HRNet, the high-resolution network."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.backbones.resnet import BasicBlock, Block, Bottleneck
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.freezing import FrozenStages
from jaxseg.models.layers.norm import build_norm, norm_name
from jaxseg.models.layers.resize import resize

BLOCKS: dict[str, type[Block]] = {"BASIC": BasicBlock, "BOTTLENECK": Bottleneck}
STAGES = ("stage1", "stage2", "stage3", "stage4")
STAGE_FIELDS = ("num_modules", "num_branches", "block", "num_blocks", "num_channels")


class HRNet(FrozenStages, nn.Module):
    """High-resolution network (Sun et al. 2019, "High-Resolution Representations for Labeling Pixels and Regions").

    A branch of stride 4 is kept from end to end; every stage adds one of half its last branch's size, and the
    branches tell each other what they know.

    Attributes:
        extra: `stage1` to `stage4`, each a dict of `num_modules`, how often the branches exchange; `num_branches`;
            `block`, "BASIC" or "BOTTLENECK"; and, by branch, `num_blocks` and `num_channels`, the blocks' width.
        in_channels: Channels of the image.
        conv_cfg: Kept for configs that state the plain convolution.
        norm_cfg: Norm layers.
        norm_eval: Use the running statistics while training, and leave them as they are.
        with_cp: Recompute each block's activations in the backward pass, to save memory.
        frozen_stages: The stem and this many stages, with what leads on from them, are not trained; -1: everything is.
        zero_init_residual: Kept for configs that state it; the reference has the field, and its blocks start alike.
        multiscale_output: Whether all branches are returned; otherwise that of stride 4 only.
    """

    extra: Mapping[str, Mapping]
    in_channels: int = 3
    conv_cfg: Mapping | None = None
    norm_cfg: Mapping = nn.FrozenDict(type="BN")
    norm_eval: bool = False
    with_cp: bool = False
    frozen_stages: int = -1
    zero_init_residual: bool = False
    multiscale_output: bool = True

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        if set(self.extra) != set(STAGES):
            raise ConfigError(f"backbone.extra has {sorted(self.extra)}; it must have {', '.join(STAGES)}")
        before = 1
        for name in STAGES:
            stage, where = self.extra[name], f"backbone.extra.{name}"
            if set(stage) != set(STAGE_FIELDS):
                raise ConfigError(f"{where} has {sorted(stage)}; it must have {', '.join(STAGE_FIELDS)}")
            if stage["block"] not in BLOCKS:
                raise ConfigError(f"{where}.block={stage['block']!r} is not one of {', '.join(BLOCKS)}")
            branches = stage["num_branches"]
            if branches < before or (name == "stage1" and branches != 1):
                raise ConfigError(f"{where}.num_branches={branches}: stage1 has one, the others not fewer than before")
            for field in ("num_blocks", "num_channels"):
                if len(stage[field]) != branches:
                    raise ConfigError(f"{where}.{field}={tuple(stage[field])} needs num_branches={branches} entries")
            before = branches
        if not -1 <= self.frozen_stages <= 4:
            raise ConfigError(f"backbone.frozen_stages={self.frozen_stages} is not between -1 and 4")
        if self.conv_cfg is not None and self.conv_cfg.get("type") not in ("Conv2d", "Conv"):
            raise ConfigError(f"backbone.conv_cfg={self.conv_cfg!r}: only the plain convolution is supported")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the branches of the last stage: strides 4, 8, 16, 32, channels as `extra` has them."""
        self.check()
        for i in (1, 2):
            x = Conv(64, 3, 2, padding=1, use_bias=False, name=f"conv{i}")(x)
            norm = build_norm(self.norm_cfg, name=norm_name(self.norm_cfg, i))
            x = jax.nn.relu(norm(x, self.trains(train, stage=0)))
        branches = [self.freeze(x, stage=0)]

        for number, name in enumerate(STAGES, start=1):
            stage, stage_train = self.extra[name], self.trains(train, number)
            if number == 1:
                branches = [residual_blocks(branches[0], stage_train, stage, 0, self.norm_cfg, self.with_cp, "layer1")]
            else:
                # What leads from one stage to the next is frozen with the former.
                branches = self.transition(branches, stage, number - 1, self.trains(train, number - 1))
                branches = [self.freeze(x, number - 1) for x in branches]
                for i in range(stage["num_modules"]):
                    single = number == 4 and i == stage["num_modules"] - 1 and not self.multiscale_output
                    module = HRModule(
                        stage, self.norm_cfg, self.with_cp, outputs=1 if single else None, name=f"{name}_{i}"
                    )
                    branches = module(branches, stage_train)
        return tuple(self.freeze(x, stage=4) for x in branches)

    def transition(self, branches: Sequence[Array], stage: Mapping, number: int, train: bool) -> list[Array]:
        """The branches in the next stage's widths, and those that it adds, each of half the size of the one before."""
        expansion = BLOCKS[stage["block"]].expansion
        outputs = []
        for i, width in enumerate(stage["num_channels"]):
            features, name = width * expansion, f"transition{number}_{i}"
            if i < len(branches):
                x = branches[i]
                if x.shape[-1] != features:
                    x = jax.nn.relu(conv_norm(x, train, features, self.norm_cfg, name))
            else:
                x, halvings = branches[-1], i + 1 - len(branches)
                for j in range(halvings):
                    between = features if j == halvings - 1 else x.shape[-1]
                    x = jax.nn.relu(conv_norm(x, train, between, self.norm_cfg, f"{name}_{j}", stride=2))
            outputs.append(x)
        return outputs

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        stem = tuple(f"{name}/" for i in (1, 2) for name in (f"conv{i}", norm_name(self.norm_cfg, i)))
        stages = (("layer1_", "transition1_"), ("stage2_", "transition2_"), ("stage3_", "transition3_"), ("stage4_",))
        frozen = (stem, *stages)[: self.frozen_stages + 1]
        return tuple(prefix for prefixes in frozen for prefix in prefixes)


class HRModule(nn.Module):
    """Residual blocks on every branch, then an exchange: every branch gets the sum of all, in its own size.

    Attributes:
        stage: Of `HRNet.extra`.
        norm_cfg, with_cp: As in HRNet.
        outputs: How many branches, the finest first, get the sum and are returned; None: all.
    """

    stage: Mapping
    norm_cfg: Mapping
    with_cp: bool
    outputs: int | None = None

    @nn.compact
    def __call__(self, branches: Sequence[Float[Array, "b _ _ _"]], train: bool) -> list[Float[Array, "b _ _ _"]]:
        """Returns the branches after the exchange."""
        branches = [
            residual_blocks(x, train, self.stage, i, self.norm_cfg, self.with_cp, f"branches_{i}")
            for i, x in enumerate(branches)
        ]
        if len(branches) == 1:
            return branches
        count = len(branches) if self.outputs is None else self.outputs
        return [
            jax.nn.relu(sum(self.bring(branches, source, target, train) for source in range(len(branches))))
            for target in range(count)
        ]

    def bring(self, branches: Sequence[Array], source: int, target: int, train: bool) -> Array:
        """One branch in the size and width of another."""
        x, like = branches[source], branches[target]
        name = f"fuse_layers_{target}_{source}"
        for j in range(target - source):
            last = j == target - source - 1
            features = like.shape[-1] if last else x.shape[-1]
            x = conv_norm(x, train, features, self.norm_cfg, f"{name}_{j}", stride=2)
            x = x if last else jax.nn.relu(x)
        if source > target:
            x = conv_norm(x, train, like.shape[-1], self.norm_cfg, name, kernel_size=1)
            # The reference enlarges by the power of two first, and then to the size; at odd sizes they differ.
            factor = 2 ** (source - target)
            x = resize(x, (x.shape[1] * factor, x.shape[2] * factor))
            x = resize(x, like.shape[1:3])
        return x


def residual_blocks(
    x: Array, train: bool, stage: Mapping, index: int, norm_cfg: Mapping, with_cp: bool, name: str
) -> Array:
    """The blocks of branch `index` of a stage; called in the `__call__` of the module that owns them."""
    block, width = BLOCKS[stage["block"]], stage["num_channels"][index]
    features = width * block.expansion
    if with_cp:
        block = nn.remat(block, static_argnums=(2,))
    for i in range(stage["num_blocks"][index]):
        x = block(
            channels=width,
            stride=1,
            dilation=1,
            downsample=x.shape[-1] != features,
            style="pytorch",
            avg_down=False,
            norm_cfg=norm_cfg,
            zero_init=False,
            name=f"{name}_{i}",
        )(x, train)
    return x


def conv_norm(
    x: Array, train: bool, features: int, norm_cfg: Mapping, name: str, stride: int = 1, kernel_size: int = 3
) -> Array:
    """A convolution and its norm, `name_0` and `name_1`; called in the `__call__` of the module that owns them."""
    x = Conv(features, kernel_size, stride, padding=kernel_size // 2, use_bias=False, name=f"{name}_0")(x)
    return build_norm(norm_cfg, name=f"{name}_1")(x, train)
