"""jaxseg: semantic segmentation on JAX.

`jaxseg.load` makes a Segmenter of a trained model; `jaxseg.list_models` lists recipes. What else there is, is in the
subpackages: models, losses, metrics, data, engine, mmseg, visualize.
"""

from typing import Any

__version__ = "0.1.0"

__all__ = ["SegmentationResult", "Segmenter", "list_models", "load"]


def load(what: str, step: int | None = None) -> "Any":
    """The Segmenter of a trained model.

    Args:
        what: A run folder, made by `python -m jaxseg.train`.
        step: Which checkpoint; None: the best one, or the latest where none was evaluated.

    Raises:
        ConfigError: It is not a run folder.
        CheckpointError: There is no such checkpoint, or it is damaged.
    """
    from jaxseg.inference import load_run

    return load_run(what, step)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the recipes that match a pattern such as "pspnet*", sorted."""
    import fnmatch

    from jaxseg.config import recipe_names

    return sorted(name for name in recipe_names() if fnmatch.fnmatch(name, pattern))


def __getattr__(name: str) -> Any:
    # Imported when asked for: `import jaxseg` is quick and touches no device.
    if name in ("Segmenter", "SegmentationResult"):
        from jaxseg import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'jaxseg' has no attribute {name!r}")
