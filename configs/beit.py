"""BEiT (Bao et al. 2021) under UPerNet: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

# By size: channels, layers, heads, the layers that are returned, how much each of them begins with.
SIZES = {
    "base": (768, 12, 12, (3, 5, 7, 11), 0.1),
    "large": (1024, 24, 16, (7, 11, 15, 23), 1e-6),
}


def upernet(backbone: dict, name: common.RecipeName) -> dict:
    """UPerNet on four layers, made a pyramid by transposed convolutions."""
    dims = backbone["embed_dims"]
    return common.encoder_decoder(
        backbone,
        common.head("UPerHead", (dims,) * 4, dims, name.num_classes, in_index=(0, 1, 2, 3)),
        common.auxiliary_fcn(dims, 256, name.num_classes),
        neck={"type": "Feature2Pyramid", "embed_dim": dims, "rescales": (4, 2, 1, 0.5)},
    )


def model(name: common.RecipeName) -> dict:
    """The model of a recipe."""
    dims, layers, heads, out_indices, init_values = SIZES[name.method.removeprefix("beit-")]
    backbone = {
        "type": "BEiT",
        "img_size": name.crop,
        "embed_dims": dims,
        "num_layers": layers,
        "num_heads": heads,
        "out_indices": out_indices,
        "drop_path_rate": 0.2 if layers == 24 else 0.1,
        "norm_cfg": {"type": "LN", "eps": 1e-6},
        "init_values": init_values,
    }
    return upernet(backbone, name)


def layer_decay(config: ConfigDict, lr: float, rate: float) -> None:
    """AdamW, slower for the first layers; a warm-up and linear decay; whole images by windows."""
    layers = config.model.backbone.num_layers
    config.optimizer = {
        "type": "AdamW",
        "lr": lr,
        "weight_decay": 0.05,
        "paramwise_cfg": {"num_layers": layers, "layer_decay_rate": rate},
    }
    config.schedule = common.poly(eta_min=0.0, power=1.0, warmup_steps=1500)
    size = config.model.backbone.img_size
    config.model.test_cfg = {"mode": "slide", "crop_size": size, "stride": tuple(2 * length // 3 for length in size)}


def base(config: ConfigDict) -> None:
    """What the smaller one learns by."""
    layer_decay(config, 3e-5, 0.9)


def large(config: ConfigDict) -> None:
    """What the larger one learns by: two batches a step, the rate down to 0 in the middle of the run."""
    layer_decay(config, 2e-5, 0.95)
    config.total_steps, config.evaluate_every, config.checkpoint_every = 320000, 32000, 32000
    config.optimizer.accumulative_counts = 2
    config.schedule = (
        {"type": "LinearLR", "start_factor": 1e-6, "begin": 0, "end": 3000},
        {"type": "PolyLR", "eta_min": 0.0, "power": 1.0, "begin": 3000, "end": 160000},
    )


NAMES = """
beit-base_upernet_8xb2-160k_ade20k-640x640
beit-base_upernet_8xb2-160k_ade20k-640x640_ms
beit-large_upernet_8xb1-amp-160k_ade20k-640x640
beit-large_upernet_8xb1-amp-160k_ade20k-640x640_ms
"""
SPELLED = {name: name.removesuffix("_ms") for name in NAMES.split()}
RECIPES = common.recipes(NAMES, model, {"beit-base": base, "beit-large": large}, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
