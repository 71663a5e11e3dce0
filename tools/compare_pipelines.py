r"""Compare what jaxseg's and MMSegmentation's pipelines make of the same files with the same random choices.

In an environment that holds mmsegmentation 1.2.2 (its compiled operators are not needed), write down what it draws and
what comes out, a file an image::

    python tools/compare_pipelines.py record CONFIG ROOT OUT --part train --count 200

In jaxseg's, read the same config and the same files, make the same choices, and compare::

    python tools/compare_pipelines.py replay CONFIG ROOT OUT --part train

CONFIG is one of mmsegmentation's, ROOT the folder of its data set. With every draw goes what it was drawn from, and
that is compared, too: so it is the choices that are replayed, through our own drawing, and not only what they lead to.
The bar: 99.9 percent of the colours of every image within one grey level, and labels equal.

`tests/data/fixtures/pipelines.npz`, for recipes whose sizes are divided, is written by::

    python tools/compare_pipelines.py fixture CONFIGS tests/data/fixtures/pipelines.npz
"""

# The reference draws from numpy.random itself.
# ruff: noqa: NPY002

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Recipes of the fixture: its name, the config, the part, what sizes are divided by, and the picture's size and format.
FIXTURE = (
    ("cityscapes", "pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py", "train", 16, (64, 128), "png"),
    ("ade20k", "pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py", "train", 8, (64, 86), "jpg"),
    ("drive", "unet/unet-s5-d16_fcn_4xb4-40k_drive-64x64.py", "train", 2, (73, 71), "png"),
    ("mask2former", "mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py", "train", 16, (64, 128), "png"),
    ("mask2former ade20k", "mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py", "train", 8, (86, 64), "jpg"),
    ("pidnet", "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py", "train", 16, (64, 128), "png"),
    ("san", "san/san-vit-b16_voc12aug-640x640.py", "train", 10, (50, 37), "jpg"),
    ("cityscapes", "pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py", "val", 20, (64, 128), "png"),
    ("ade20k", "pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py", "val", 8, (64, 86), "jpg"),
    ("drive", "unet/unet-s5-d16_fcn_4xb4-40k_drive-64x64.py", "val", 6, (73, 71), "png"),
    ("san", "san/san-vit-b16_voc12aug-640x640.py", "val", 10, (50, 37), "jpg"),
    ("poolformer", "poolformer/fpn_poolformer_s12_8xb4-40k_ade20k-512x512.py", "val", 8, (64, 86), "jpg"),
)  # fmt: skip
_SEEDS = 2  # how often each pipeline with draws runs
_SIZES = ("scale", "scales", "crop_size", "size", "max_size")


def divided(pipeline: Sequence[Mapping[str, Any]], by: int) -> list[dict[str, Any]]:
    """The same transforms with all sizes divided."""

    def divide(value: Any) -> Any:
        return type(value)(map(divide, value)) if isinstance(value, list | tuple) else value // by

    return [{name: divide(v) if name in _SIZES else v for name, v in step.items()} for step in pipeline]


# The reference.


@contextlib.contextmanager
def recorded(draws: list[list[Any]]) -> Iterator[None]:
    """Appends [kind, value, what it is drawn from] of everything that is drawn from numpy.random meanwhile."""
    originals = {name: getattr(np.random, name) for name in ("rand", "random", "random_sample", "randint", "uniform",
                                                             "choice")}  # fmt: skip

    def integers(low: int, high: int | None = None) -> int:
        value = originals["randint"](low, high)
        draws.append(["integers", int(value), [0, int(low)] if high is None else [int(low), int(high)]])
        return value

    def uniform(low: float = 0.0, high: float = 1.0) -> float:
        value = originals["uniform"](low, high)
        draws.append(["uniform", float(value), [float(low), float(high)]])
        return value

    def random() -> float:
        value = originals["random_sample"]()
        draws.append(["random", float(value), []])
        return value

    def choice(options: Any, p: Any = None) -> Any:
        if isinstance(options, int | np.integer):
            value = integers(options)
            assert p is None
            return value
        value = originals["choice"](options, p=p)
        draws.append(["choice", None if value is None else str(value), [list(options), [float(x) for x in p]]])
        return None if value is None else options[[str(option) for option in options].index(str(value))]

    patches = {"randint": integers, "uniform": uniform, "choice": choice}
    patches |= dict.fromkeys(("rand", "random", "random_sample"), random)
    try:
        for name, function in patches.items():
            setattr(np.random, name, function)
        yield
    finally:
        for name, function in originals.items():
            setattr(np.random, name, function)


def start_reference() -> None:
    """Imports the reference without its compiled operators."""
    import unittest.mock

    sys.modules["mmcv._ext"] = unittest.mock.MagicMock()
    import cv2
    import mmseg.datasets  # noqa: F401
    from mmengine.registry import init_default_scope

    cv2.setNumThreads(1)
    init_default_scope("mmseg")


def run_reference(transforms: Sequence[Any], results: dict[str, Any]) -> dict[str, np.ndarray]:
    """The record that comes out, under our names, and as JSON what each transform drew."""
    draws = []
    for transform in transforms:
        drawn: list[list[Any]] = []
        with recorded(drawn):
            results = transform(results)
        draws.append([type(transform).__name__, drawn])
    sample = results["data_samples"]
    out = {"image": results["inputs"].numpy().transpose(1, 2, 0)[..., ::-1], "draws": np.array(json.dumps(draws))}
    out["label"] = sample.gt_sem_seg.data.numpy()[0]
    if "gt_edge_map" in sample:
        out["edge"] = sample.gt_edge_map.data.numpy()[0]
    return {name: v.astype(np.uint8) if v.dtype.kind == "i" else v for name, v in out.items()}


def record(config_path: str, root: str, out: Path, part: str, count: int, seed: int) -> None:
    """Writes what the reference draws and makes: a file an image."""
    start_reference()
    from mmengine.config import Config
    from mmseg.registry import DATASETS

    config = Config.fromfile(config_path, import_custom_modules=False)[f"{part}_dataloader"]["dataset"]
    while "dataset" in config:
        config = config["dataset"]
    config["data_root"] = root
    dataset = DATASETS.build(config)
    out.mkdir(parents=True, exist_ok=True)
    np.random.seed(seed)
    for number in range(count):
        results = dataset.get_data_info(number % len(dataset))
        arrays = run_reference(dataset.pipeline.transforms, results)
        path = Path(results["img_path"]).relative_to(root).as_posix()
        np.savez(out / f"{part}_{number:06d}.npz", path=np.array(path), **arrays)
    print(f"{out}: {count} images of {len(dataset)}")


# jaxseg.


class Replayed:
    """In place of a generator: gives what was drawn before, and checks that it is drawn from the same."""

    def __init__(self, draws: Sequence[Sequence[Any]]) -> None:
        self.left = list(draws)

    def _next(self, kind: str, *bounds: float) -> Any:
        if not self.left:
            raise ValueError(f"{kind}{bounds} is drawn where the reference draws nothing more")
        wanted, value, of = self.left.pop(0)
        if wanted != kind or not np.allclose(of, bounds, rtol=1e-12):
            raise ValueError(f"{kind}{bounds} is drawn where the reference draws {wanted}{tuple(of)}")
        return value

    def integers(self, low: int, high: int | None = None) -> int:
        """A whole number from `low`, below `high`."""
        return self._next("integers", *((0, low) if high is None else (low, high)))

    def uniform(self, low: float, high: float) -> float:
        """A number between two."""
        return self._next("uniform", low, high)

    def random(self) -> float:
        """A number in 0..1."""
        return self._next("random")


def _flip(drawn: list[list[Any]], step: Any) -> list[list[Any]]:
    """One choice of the reference's; here a number below the sum of probabilities up to the direction's."""
    (_, value, (options, probabilities)) = drawn[0]
    ours = dict(zip(step.direction, step.prob, strict=True))
    theirs = {name: p for name, p in zip(options, probabilities, strict=True) if name is not None}
    if ours != theirs:
        raise ValueError(f"RandomFlip draws of {ours}, the reference of {theirs}")
    ends = np.cumsum(step.prob)
    at = (1 + ends[-1]) / 2 if value is None else ends[step.direction.index(value)] - step.prob[0] / 2
    return [["random", float(at), []]]


def _distortion(drawn: list[list[Any]], step: Any) -> list[list[Any]]:
    """The contrast is drawn where it is applied there, and always second here."""
    rest = list(drawn)

    def maybe() -> list[list[Any]]:
        chosen = rest.pop(0)
        return [chosen, rest.pop(0)] if chosen[1] else [chosen]

    brightness = maybe()
    order = rest.pop(0)
    contrast = maybe() if order[1] else []
    others = [*maybe(), *maybe()]
    return [*brightness, order, *(contrast or maybe()), *others]


# The reference's draws of a transform, as ours draws.
_IN_OUR_ORDER = {"RandomFlip": _flip, "PhotoMetricDistortion": _distortion}


def in_our_order(draws: Sequence[Sequence[Any]], steps: Sequence[Any]) -> list[list[Any]]:
    """All draws of a pipeline of the reference, for a Replayed that goes through `steps`, which are not fused."""
    left, out = [step for step in steps if step.random], []
    for kind, drawn in draws:
        if not drawn:
            continue
        step = left.pop(0)
        if type(step).__name__ != kind:
            raise ValueError(f"the reference's {kind} draws, and here {type(step).__name__} comes next")
        out += _IN_OUR_ORDER[kind](drawn, step) if kind in _IN_OUR_ORDER else drawn
    return out


def differences(ours: Mapping[str, Any], theirs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Largest difference and share of unequal and of far (above one level) colours; unequal labels and edges.

    Raises:
        ValueError: Sizes differ in more than the padding at our end, or the padding counts as labelled.
    """
    height, width = theirs["image"].shape[:2]
    image = ours["image"]
    if image.shape[0] < height or image.shape[1] < width:
        raise ValueError(f"an image is {image.shape}, of the reference {theirs['image'].shape}")
    apart = np.abs(image[:height, :width].astype(np.int16) - theirs["image"])
    found = {"largest": float(apart.max()), "unequal": float((apart > 0).mean()), "far": float((apart > 1).mean())}
    h, w = theirs["label"].shape
    label = ours["label"]
    outside = np.ones(label.shape, bool)
    outside[:h, :w] = False
    if (label[outside] != 255).any():
        raise ValueError("the padding has labels")
    found["labels"] = float((label[:h, :w] != theirs["label"]).sum())
    if "edge" in theirs:
        found["labels"] += float((ours["edge"][:h, :w] != theirs["edge"]).sum())
    return found


def replayed(pipeline: Any, apart: Any, given: Mapping[str, Any], draws: Sequence[Any]) -> dict[str, Any]:
    """What a pipeline makes of a record with the reference's draws; `apart` is the same pipeline, not fused."""
    rng = Replayed(in_our_order(draws, apart.steps))
    out = pipeline(given, rng)
    if rng.left:
        raise ValueError(f"the reference draws more: {rng.left}")
    return out


def replay(config_path: str, root: str, out: Path, part: str) -> int:
    """Compares our pipeline with what was recorded; prints figures, and returns how many images miss the bar."""
    from jaxseg.data import build_source, build_transforms
    from jaxseg.data.transforms.windowed import read_windows
    from jaxseg.mmseg import load_config

    config = load_config(config_path)
    with config.unlocked():
        config.data.root = root
    source = build_source(config.data, part)
    places = {Path(path).relative_to(root).as_posix(): i for i, path in enumerate(source.image_paths)}
    transforms = config.data[part].transforms
    apart = build_transforms(transforms, fuse=False)
    pipelines = {"apart": apart, "fused": build_transforms(transforms)}
    pipelines["windows"] = read_windows(pipelines["fused"])
    files = sorted(out.glob(f"{part}_*.npz"))
    if not files:
        raise SystemExit(f"{out} has nothing recorded of {part}")
    missed = 0
    for name, pipeline in pipelines.items():
        found = []
        for file in files:
            with np.load(file) as arrays:
                theirs = dict(arrays)
            given = source[places[str(theirs["path"])]]
            found.append(differences(replayed(pipeline, apart, given, json.loads(str(theirs["draws"]))), theirs))
        worst = {key: max(figures[key] for figures in found) for key in found[0]}
        bad = sum(figures["far"] > 1e-3 or figures["labels"] > 0 for figures in found)
        print(
            f"{part}, {name}: {len(found)} images; largest difference {worst['largest']:.0f} levels, at most "
            f"{worst['unequal']:.2%} of an image's colours unequal, {worst['far']:.3%} by more than one level; "
            f"{sum(figures['labels'] for figures in found):.0f} labels unequal; {bad} images miss the bar"
        )
        missed += bad
    return missed


# The fixture.


def picture(size: tuple[int, int], classes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture (BGR) of soft colours with sharp things in it, and labels of `classes` classes and 255."""
    import cv2

    height, width = size
    image = cv2.resize(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    label = cv2.resize(rng.integers(0, classes, (5, 7)).astype(np.uint8), (width, height), interpolation=0)
    for _ in range(6):
        centre = int(rng.integers(width)), int(rng.integers(height))
        radius, number = int(rng.integers(3, 1 + height // 6)), int(rng.integers(classes))
        cv2.circle(image, centre, radius, [int(x) for x in rng.integers(0, 256, 3)], -1)
        cv2.circle(label, centre, radius, number, -1)
    label[: height // 10, : width // 3] = 255
    return image, label


def fixture(configs: Path, out: Path) -> None:
    """Writes pictures, pipelines, draws and results of the recipes in `FIXTURE`."""
    start_reference()
    import tempfile

    import cv2
    from mmengine.config import Config
    from mmseg.registry import TRANSFORMS

    arrays, cases = {}, []
    rng = np.random.default_rng(0)
    for name, path, part, by, size, suffix in FIXTURE:
        config = Config.fromfile(configs / path, import_custom_modules=False)[f"{part}_dataloader"]["dataset"]
        while "dataset" in config or "datasets" in config:
            config = config["dataset"] if "dataset" in config else config["datasets"][0]
        pipeline = divided([dict(step) for step in config["pipeline"]], by)
        reduce = any(step.get("reduce_zero_label") for step in pipeline)
        classes = 2 if name == "drive" else 20
        image, label = picture(size, classes, rng)
        files = cv2.imencode(f".{suffix}", image)[1], cv2.imencode(".png", label)[1]
        key = f"{name} {part}"
        cases.append({"name": key, "pipeline": pipeline, "reduce_zero_label": reduce,
                      "classes": classes, "suffix": suffix})  # fmt: skip
        arrays[f"{key}.image_file"], arrays[f"{key}.label_file"] = files
        transforms = [TRANSFORMS.build(step) for step in pipeline]
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/image.{suffix}", f"{folder}/label.png"]
            for file, content in zip(paths, files, strict=True):
                Path(file).write_bytes(content.tobytes())
            for seed in range(_SEEDS if part == "train" else 1):
                np.random.seed(seed)
                results = {"img_path": paths[0], "seg_map_path": paths[1], "label_map": None,
                           "reduce_zero_label": reduce, "seg_fields": []}  # fmt: skip
                made = run_reference(transforms, results)
                for what, array in made.items():
                    png = array if what == "draws" else cv2.imencode(".png", array)[1]  # half the size
                    arrays[f"{key}.{seed}.{what}"] = png
    arrays["cases"] = np.array(json.dumps(cases))
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    out.write_bytes(content.getvalue())
    print(f"{out}: {len(cases)} pipelines, {out.stat().st_size} bytes, OpenCV {cv2.__version__}")


def main() -> None:
    """Does what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("record", "replay"):
        command = verbs.add_parser(verb)
        for name in ("config", "root"):
            command.add_argument(name)
        command.add_argument("out", type=Path)
        command.add_argument("--part", choices=("train", "val", "test"), default="train")
        if verb == "record":
            command.add_argument("--count", type=int, default=200)
            command.add_argument("--seed", type=int, default=0)
    command = verbs.add_parser("fixture")
    command.add_argument("configs", type=Path)
    command.add_argument("out", type=Path)
    args = parser.parse_args()
    if args.verb == "record":
        record(args.config, args.root, args.out, args.part, args.count, args.seed)
    elif args.verb == "replay":
        sys.exit(1 if replay(args.config, args.root, args.out, args.part) else 0)
    else:
        fixture(args.configs, args.out)


if __name__ == "__main__":
    main()
