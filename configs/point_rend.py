"""PointRend (Kirillov et al. 2020) on Semantic FPN: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common, sem_fpn


def model(name: common.RecipeName) -> dict:
    """A head of points after that of Semantic FPN, on the finest map of the same neck."""
    backbone = name.resnet()
    fields = {"in_index": (0,), "dropout_ratio": -1, "num_fcs": 3, "coarse_pred_each_layer": True, "norm_cfg": None}
    coarse = sem_fpn.head(name.num_classes, dropout_ratio=-1)
    points = common.head("PointHead", (256,), 256, name.num_classes, **fields)
    parts = {"type": "CascadeEncoderDecoder", "num_stages": 2, "neck": sem_fpn.pyramid(backbone)}
    train_cfg = {"num_points": 2048, "oversample_ratio": 3, "importance_sample_ratio": 0.75}
    return common.encoder_decoder(backbone, (coarse, points), **parts, train_cfg=train_cfg)


def pointrend(config: ConfigDict) -> None:
    """Two doublings of the size in evaluation, and a short warm-up."""
    subdivision = {"subdivision_steps": 2, "subdivision_num_points": 8196, "scale_factor": 2}
    config.model.test_cfg = {"mode": "whole", **subdivision}
    warmup = {"type": "LinearLR", "start_factor": 0.1, "begin": 0, "end": 200}
    config.schedule = (warmup, {"type": "PolyLR", "eta_min": 1e-4, "power": 0.9, "begin": 200})


NAMES = """
pointrend_r101_4xb2-80k_cityscapes-512x1024
pointrend_r101_4xb4-160k_ade20k-512x512
pointrend_r50_4xb2-80k_cityscapes-512x1024
pointrend_r50_4xb4-160k_ade20k-512x512
"""
RECIPES = common.recipes(NAMES, model, {"pointrend": pointrend})


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
