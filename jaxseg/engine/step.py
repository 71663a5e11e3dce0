"""The jitted steps: one of training, one of evaluation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Integer, Num, PRNGKeyArray

from jaxseg.engine.state import TrainState
from jaxseg.errors import ConfigError
from jaxseg.losses import Logs, model_losses
from jaxseg.models.registry import Config


def normalise(images: Num[Array, "b h w c"], mean: Sequence[float], std: Sequence[float]) -> Float[Array, "b h w c"]:
    """(images - mean) / std in float32, channel by channel; `mean` and `std` are in the images' units.

    Raises:
        ConfigError: There are not as many of them as channels.
    """
    if len(mean) not in (1, images.shape[-1]):
        raise ConfigError(
            f"images have {images.shape[-1]} channels, but preprocess.mean has {len(mean)} numbers (data.channels says "
            "how many channels images have)"
        )
    return (images.astype(jnp.float32) - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def hold_frozen(model: nn.Module, params: Any) -> Any:
    """The parameters, of which those that are not trained get no gradient."""
    prefixes = model.frozen_parameters()
    if not prefixes:
        return params
    flat = flatten_dict(params, sep="/")
    held = {name: jax.lax.stop_gradient(leaf) for name, leaf in flat.items() if name.startswith(prefixes)}
    return unflatten_dict(flat | held, sep="/")


def compute_losses(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w *k"],
    rng: PRNGKeyArray | None = None,
    train: bool = True,
    extras: Mapping[str, Array] | None = None,
) -> tuple[Float[Array, ""], Logs, Any]:
    """Losses of a batch.

    Args:
        model: A segmentor.
        variables: {"params": ..., "batch_stats": ...}.
        images: Normalised images.
        labels: Class indices; or several classes a pixel, [b h w classes] of 0 and 1.
        rng: Key of dropout, stochastic depth, points and bases; None: nothing is dropped, and the others are always the
            same.
        train: Whether norm layers use, and learn from, the batch's statistics. If not, only the decode head
            runs and only its losses are returned.
        extras: What else the batch has for losses, such as "edge" [b h w].

    Returns:
        The total loss; the logs under the reference's names ("decode.loss_ce", "decode.acc_seg", ...); the
        updated batch_stats (as given when not training).
    """
    names = ("points", "bases")
    rngs = None if rng is None else {"dropout": rng} | {n: jax.random.fold_in(rng, i) for i, n in enumerate(names, 1)}
    variables = {"batch_stats": {}, **variables, "params": hold_frozen(model, variables["params"])}
    outputs, updates = model.apply(variables, images, train=train, rngs=rngs, mutable=["batch_stats"])
    total, logs = model_losses(model, outputs, labels, extras)
    return total, logs, updates["batch_stats"] if train else variables["batch_stats"]


def make_train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, preprocess: Config, seed: int
) -> Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, Logs]]:
    """Builds `train_step(state, batch) -> state, logs`, to be jitted.

    Args:
        model: A segmentor.
        optimizer: From `build_optimizer`.
        preprocess: `mean` and `std`, in the units of the images.
        seed: Of dropout and stochastic depth; the key of a step is a function of it and the step alone.

    A batch is {"image": uint8, uint16 or float32 [b h w c], "label": uint8 or int32 [b h w]}, and what losses need.
    Logs are scalars: "loss", the losses of every head, and "grad_norm" before clipping.
    """

    def train_step(state: TrainState, batch: Mapping[str, Array]) -> tuple[TrainState, Logs]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        images = normalise(batch["image"], preprocess["mean"], preprocess["std"])
        extras = {name: array for name, array in batch.items() if name not in ("image", "label")}

        def loss_of(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            total, logs, batch_stats = compute_losses(model, variables, images, batch["label"], rng, extras=extras)
            return total, (logs, batch_stats)

        (total, (logs, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        logs = {"loss": total, **logs, "grad_norm": optax.tree.norm(gradients)}
        return state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state), logs

    return train_step
