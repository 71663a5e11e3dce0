"""Evaluation: one pass over a source, with all that is counted kept on the devices."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxseg.data import Source, eval_batches
from jaxseg.data.transforms.base import refuse_mixing
from jaxseg.engine.mesh import by_batch, replicated, to_devices, to_hosts
from jaxseg.inference import check_test_cfg, make_predict
from jaxseg.metrics import ConfusionMatrix, count_pixels, count_several, mean_iou, of_presence, summary
from jaxseg.models.layers.platform import jit
from jaxseg.models.registry import Config


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
        metrics: Scores in percent, see `jaxseg.metrics.summary`.
        confusion: Pixels by true (rows) and predicted class; of several classes a pixel a 2x2 matrix each.
        image_scores: Mean IoU, 0 to 1, of every image of the source; NaN where nothing counts.
    """

    metrics: dict[str, Any]
    confusion: Int[np.ndarray, "*k c c"]
    image_scores: Float[np.ndarray, " n"]


class Evaluator:
    """Evaluates variables on a source; compiles once for each size of image and label.

    Args:
        model: The segmentor.
        preprocess: `mean` and `std`, in the units of the images.
        source: What to evaluate on.
        transform: The transforms of its records.
        batch_size: Images of a batch over all devices; made a multiple of their number.
        mesh: The devices.
        read_threads: Threads that decode and transform.

    Raises:
        ConfigError: The model's `test_cfg` can't be used, or the transforms mix records.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocess: Config,
        source: Source,
        transform: Callable,
        batch_size: int,
        mesh: Mesh,
        read_threads: int = 2,
    ):
        check_test_cfg(model.test_cfg)
        refuse_mixing(transform, "to evaluate with")
        self.model, self.preprocess, self.source, self.transform = model, preprocess, source, transform
        devices = mesh.size
        self.batch_size = -(-batch_size // devices) * devices
        self.mesh, self.read_threads = mesh, read_threads
        self._step = jit(self._count, out_shardings=(replicated(mesh), by_batch(mesh)))

    def __call__(self, variables: Mapping[str, Any], on_batch: Callable[[int], None] = lambda done: None) -> Evaluation:
        """Evaluates; `on_batch` is told after each batch how many images are done.

        Raises:
            DataError: A file can't be used.
        """
        num_classes = len(self.source.classes)
        matrix = None
        image_scores = np.full(len(self.source), np.nan)
        done = 0
        for batch in self._batches():
            if matrix is None:
                empty = ConfusionMatrix.empty(num_classes, multi_label=batch["label"].ndim == 4)
                matrix = jax.device_put(empty, replicated(self.mesh))
            matrix, scores = self._step(variables, matrix, to_devices(batch, self.mesh))
            index, scores = to_hosts((self._gather(batch["index"]), scores))
            image_scores[index[index >= 0]] = scores[index >= 0]
            done += int((index >= 0).sum())
            on_batch(done)
        confusion = matrix.to_numpy()
        return Evaluation(summary(confusion, self.source.classes), confusion, image_scores)

    def _batches(self):
        return eval_batches(
            self.source,
            self.transform,
            batch_size=self.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            read_threads=self.read_threads,
        )

    def _gather(self, index: np.ndarray) -> Array:
        return jax.make_array_from_process_local_data(by_batch(self.mesh), index)

    def _count(
        self, variables: Mapping[str, Any], matrix: ConfusionMatrix, batch: Mapping[str, Array]
    ) -> tuple[ConfusionMatrix, Float[Array, " b"]]:
        multi_label = batch["label"].ndim == 4
        predict = make_predict(self.model, self.preprocess, batch["label"].shape[1:3], multi_label)
        predictions, _ = predict(variables, batch["image"])
        if multi_label:
            counts = count_several(predictions, batch["label"])
            return matrix.add(counts.sum(0)), jnp.nanmean(of_presence(counts), axis=-1)
        counts = count_pixels(predictions, batch["label"], len(self.source.classes))
        return matrix.add(counts.sum(0)), mean_iou(counts)
