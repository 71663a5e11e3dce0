"""jaxseg: semantic segmentation on JAX.

`jaxseg.load` makes a Segmenter of a trained model; `jaxseg.list_models` lists recipes. What else there is, is in the
subpackages: models, losses, metrics, data, engine, mmseg, visualize.
"""

from pathlib import Path
from typing import Any

# In a checkout, jaxseg.configs is the folder beside this one; installed elsewhere, another checkout may have the name.
_root = Path(__file__).parent.parent
if (_root / "configs" / "common.py").is_file():
    __path__.append(str(_root))

__version__ = "0.1.0"

__all__ = ["SegmentationResult", "Segmenter", "list_models", "load"]


def load(what: "Any", step: int | None = None) -> "Any":
    """The Segmenter of a trained model.

    Args:
        what: A folder, made by `python -m jaxseg.train` or `python -m jaxseg.convert`; the name of a model that
            MMSegmentation published, such as "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024", which is downloaded once;
            a pair of an MMSegmentation config and a checkpoint of it (.pth, .safetensors); or such a checkpoint alone,
            where it has its config in it. Nothing in these files is run.
        step: Which checkpoint of a run; None: the best one, or the latest where none was evaluated.

    Raises:
        ConfigError: It is none of these, or a config can't be translated.
        CheckpointError: There is no such checkpoint, it is damaged, can't be had, or does not fit its config.
    """
    from jaxseg import inference

    return inference.load(what, step)


def list_models(pattern: str = "*", published: bool = False) -> list[str]:
    """Names of the recipes that match a pattern such as "pspnet*", sorted.

    Args:
        pattern: With `*`, `?` and `[]`, as for files.
        published: Only those that MMSegmentation published weights of; `load` takes their names.
    """
    import fnmatch

    from jaxseg.config import recipe_names

    names = recipe_names()
    if published:
        from jaxseg.mmseg import zoo

        names = names.keys() & zoo.entries().keys()
    return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))


def __getattr__(name: str) -> Any:
    # Imported when asked for: `import jaxseg` is quick and touches no device.
    if name in ("Segmenter", "SegmentationResult"):
        from jaxseg import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'jaxseg' has no attribute {name!r}")
