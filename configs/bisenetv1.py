"""BiSeNetV1 (Yu et al. 2018): the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(name: common.RecipeName) -> dict:
    """The fused map, classified; auxiliary heads on the context path's two."""
    resnet = name.resnet()
    deep = resnet["depth"] >= 50
    factor = 4 if deep else 1
    resnet |= {"type": "ResNet", "in_channels": 3, "num_stages": 4, "out_indices": (0, 1, 2, 3), "norm_eval": False}
    backbone = {
        "type": "BiSeNetV1",
        "backbone_cfg": resnet | {"style": "pytorch"},
        "spatial_channels": tuple(factor * channels for channels in (64, 64, 64, 128)),
        "context_channels": tuple(factor * channels for channels in (128, 256, 512)),
        "out_channels": factor * 256,
        "norm_cfg": dict(common.BN),
    }
    plain = {"num_convs": 1, "concat_input": False}
    return common.encoder_decoder(
        backbone,
        common.head("FCNHead", factor * 256, factor * 256, name.num_classes, in_index=0, **plain),
        tuple(common.head("FCNHead", factor * 128, factor * 64, name.num_classes, in_index=i, **plain) for i in (1, 2)),
    )


def bisenetv1_run(config: ConfigDict) -> None:
    """Rates by data set and depth, after a warm-up."""
    cityscapes = {18: 0.025, 50: 0.05}
    depth = config.model.backbone.backbone_cfg.depth
    config.optimizer = common.sgd(cityscapes[depth] if config.data.dataset == "Cityscapes" else 0.005)
    config.schedule = common.poly(warmup_steps=1000, start_factor=0.1)


NAMES = """
bisenetv1_r101-d32-in1k-pre_4xb4-160k_coco-stuff164k-512x512
bisenetv1_r101-d32_4xb4-160k_coco-stuff164k-512x512
bisenetv1_r18-d32-in1k-pre_4xb4-160k_cityscapes-1024x1024
bisenetv1_r18-d32-in1k-pre_4xb4-160k_coco-stuff164k-512x512
bisenetv1_r18-d32-in1k-pre_4xb8-160k_cityscapes-1024x1024
bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024
bisenetv1_r18-d32_4xb4-160k_coco-stuff164k-512x512
bisenetv1_r50-d32-in1k-pre_4xb4-160k_cityscapes-1024x1024
bisenetv1_r50-d32-in1k-pre_4xb4-160k_coco-stuff164k-512x512
bisenetv1_r50-d32_4xb4-160k_cityscapes-1024x1024
bisenetv1_r50-d32_4xb4-160k_coco-stuff164k-512x512
"""
RECIPES = common.recipes(NAMES, model, {"bisenetv1": bisenetv1_run, **common.PRETRAINED})


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
