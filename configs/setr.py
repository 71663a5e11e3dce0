"""SETR (Zheng et al. 2021) with ViT-L: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

# Of the decode head; the auxiliary ones have kernels of the same size.
UPSAMPLING = {
    "naive": {"num_convs": 1, "up_scale": 4, "kernel_size": 1},
    "pup": {"num_convs": 4, "up_scale": 2, "kernel_size": 3},
}
RATES = {("pup", "ADE20K"): 0.001, ("mla", "ADE20K"): 0.001, ("mla", "Cityscapes"): 0.002}


def model(name: common.RecipeName) -> dict:
    """One of three decoders, and a loss for each of the layers that it takes, or for all but the last."""
    kind = name.words[1]
    backbone = {
        "type": "VisionTransformer",
        "img_size": name.crop,
        "embed_dims": 1024,
        "num_layers": 24,
        "num_heads": 16,
        "out_indices": (5, 11, 17, 23) if kind == "mla" else (9, 14, 19, 23),
        "norm_cfg": {"type": "LN", "eps": 1e-6},
        "with_cls_token": kind != "mla",
        "interpolate_mode": "bilinear",
    }
    parts = aggregation(name) if kind == "mla" else upsampling(name, kind)
    return common.encoder_decoder(backbone, **parts)


def aggregation(name: common.RecipeName) -> dict:
    """A neck that adds up the layers, and the heads on its maps."""
    neck = {
        "type": "MLANeck",
        "in_channels": (1024,) * 4,
        "out_channels": 256,
        "norm_cfg": dict(common.BN),
        "act_cfg": {"type": "ReLU"},
    }
    joined = {"in_index": (0, 1, 2, 3), "dropout_ratio": 0, "mla_channels": 128}
    # Without convolutions there is nothing for a norm to follow.
    bare = {"num_convs": 0, "kernel_size": 1, "dropout_ratio": 0}
    bare["norm_cfg"] = dict(common.BN) if name.dataset == "ade20k" else None
    return {
        "neck": neck,
        "decode_head": common.head("SETRMLAHead", (256,) * 4, 512, name.num_classes, **joined),
        "auxiliary_head": tuple(common.auxiliary_fcn(256, 256, name.num_classes, in_index=i, **bare) for i in range(4)),
    }


def upsampling(name: common.RecipeName, kind: str) -> dict:
    """A head on the last layer, and one on each of three before it."""
    fields = UPSAMPLING[kind]
    several = kind == "pup" or name.dataset == "ade20k"
    auxiliary = {"num_convs": 2 if several else 1, "kernel_size": fields["kernel_size"]}
    weaker = {"loss_decode": common.cross_entropy(loss_weight=0.4)}

    def head(i: int, **fields) -> dict:
        return common.head("SETRUPHead", 1024, 256, name.num_classes, in_index=i, dropout_ratio=0, **fields)

    return {"decode_head": head(3, **fields), "auxiliary_head": tuple(head(i, **auxiliary, **weaker) for i in range(3))}


def of(kind: str) -> common.Change:
    """SGD without decay, the heads ten times as fast; whole images by windows."""

    def change(config: ConfigDict) -> None:
        rate = RATES.get((kind, config.data.dataset), 0.01)
        faster = {"paramwise_cfg": {"custom_keys": {"head": {"lr_mult": 10.0}}}}
        config.optimizer = {**common.sgd(rate, weight_decay=0.0), **faster}
        size, stride = ((512, 512), (341, 341)) if config.data.dataset == "ADE20K" else ((768, 768), (512, 512))
        config.model.test_cfg = {"mode": "slide", "crop_size": size, "stride": stride}

    return change


NAMES = """
setr_vit-l-mla_8xb1-160k_ade20k-512x512
setr_vit-l_mla_8xb1-80k_cityscapes-768x768
setr_vit-l_mla_8xb2-160k_ade20k-512x512
setr_vit-l_naive_8xb1-80k_cityscapes-768x768
setr_vit-l_naive_8xb2-160k_ade20k-512x512
setr_vit-l_pup_8xb1-80k_cityscapes-768x768
setr_vit-l_pup_8xb2-160k_ade20k-512x512
"""
CHANGES = {"l": lambda config: None, **{kind: of(kind) for kind in ("mla", "naive", "pup")}}
RECIPES = common.recipes(NAMES, model, CHANGES)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
