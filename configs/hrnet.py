"""HRNet (Sun et al. 2019), its maps joined and classified: the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common

# Width of the finest branch; modules of the last three stages; blocks on every branch.
SIZES = {"hr18": (18, (1, 4, 3), 4), "hr18s": (18, (1, 3, 2), 2), "hr48": (48, (1, 4, 3), 4)}


def channels(size: str) -> tuple[int, ...]:
    """Channels of the four maps."""
    return tuple(SIZES[size][0] * 2**i for i in range(4))


def backbone(size: str) -> dict[str, Any]:
    """An HRNet: "hr18", "hr18s" (small) or "hr48"."""
    _, modules, blocks = SIZES[size]
    stages = {"stage1": (1, "BOTTLENECK", (64,))}
    stages |= {f"stage{i + 2}": (count, "BASIC", channels(size)[: i + 2]) for i, count in enumerate(modules)}
    extra = {
        name: {
            "num_modules": count,
            "num_branches": len(widths),
            "block": block,
            "num_blocks": (blocks,) * len(widths),
            "num_channels": widths,
        }
        for name, (count, block, widths) in stages.items()
    }
    return {"type": "HRNet", "norm_cfg": dict(common.BN), "norm_eval": False, "extra": extra}


def head(size: str, num_classes: int, **fields: Any) -> dict[str, Any]:
    """One convolution on the joined maps, and no dropout."""
    return common.head(
        "FCNHead", channels(size), sum(channels(size)), num_classes,
        in_index=(0, 1, 2, 3), input_transform="resize_concat", kernel_size=1, num_convs=1, concat_input=False,
        dropout_ratio=-1.0, **fields,
    )  # fmt: skip


def model(name: common.RecipeName) -> dict:
    """The model of a recipe."""
    return common.encoder_decoder(backbone(name.backbone), head(name.backbone, name.num_classes))


NAMES = """
fcn_hr18_4xb2-160k_cityscapes-512x1024
fcn_hr18_4xb2-40k_cityscapes-512x1024
fcn_hr18_4xb2-80k_cityscapes-512x1024
fcn_hr18_4xb4-160k_ade20k-512x512
fcn_hr18_4xb4-20k_voc12aug-512x512
fcn_hr18_4xb4-40k_pascal-context-480x480
fcn_hr18_4xb4-40k_pascal-context-59-480x480
fcn_hr18_4xb4-40k_voc12aug-512x512
fcn_hr18_4xb4-80k_ade20k-512x512
fcn_hr18_4xb4-80k_isaid-896x896
fcn_hr18_4xb4-80k_loveda-512x512
fcn_hr18_4xb4-80k_pascal-context-480x480
fcn_hr18_4xb4-80k_pascal-context-59-480x480
fcn_hr18_4xb4-80k_potsdam-512x512
fcn_hr18_4xb4-80k_vaihingen-512x512
fcn_hr18s_4xb2-160k_cityscapes-512x1024
fcn_hr18s_4xb2-40k_cityscapes-512x1024
fcn_hr18s_4xb2-80k_cityscapes-512x1024
fcn_hr18s_4xb4-160k_ade20k-512x512
fcn_hr18s_4xb4-20k_voc12aug-512x512
fcn_hr18s_4xb4-40k_pascal-context-480x480
fcn_hr18s_4xb4-40k_pascal-context-59-480x480
fcn_hr18s_4xb4-40k_voc12aug-512x512
fcn_hr18s_4xb4-80k_ade20k-512x512
fcn_hr18s_4xb4-80k_isaid-896x896
fcn_hr18s_4xb4-80k_loveda-512x512
fcn_hr18s_4xb4-80k_pascal-context-480x480
fcn_hr18s_4xb4-80k_pascal-context-59-480x480
fcn_hr18s_4xb4-80k_potsdam-512x512
fcn_hr18s_4xb4-80k_vaihingen-512x512
fcn_hr48_4xb2-160k_cityscapes-512x1024
fcn_hr48_4xb2-40k_cityscapes-512x1024
fcn_hr48_4xb2-80k_cityscapes-512x1024
fcn_hr48_4xb4-160k_ade20k-512x512
fcn_hr48_4xb4-20k_voc12aug-512x512
fcn_hr48_4xb4-40k_pascal-context-480x480
fcn_hr48_4xb4-40k_pascal-context-59-480x480
fcn_hr48_4xb4-40k_voc12aug-512x512
fcn_hr48_4xb4-80k_ade20k-512x512
fcn_hr48_4xb4-80k_isaid-896x896
fcn_hr48_4xb4-80k_loveda-512x512
fcn_hr48_4xb4-80k_pascal-context-480x480
fcn_hr48_4xb4-80k_pascal-context-59-480x480
fcn_hr48_4xb4-80k_potsdam-512x512
fcn_hr48_4xb4-80k_vaihingen-512x512
"""
RECIPES = common.recipes(NAMES, model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
