"""Which platform a program is being traced for: the one place where CPU forms are chosen.

XLA's CPU backend has no fast path for some operations that are single instructions elsewhere (depthwise
convolution, windowed maximum, 1x1 convolution's gradient, image resizing). Layers ask `on_cpu()` while they are
traced and pick an equal form that is quick there. Programs that are traced on one machine and run on another
(ahead-of-time compilation, export) say so with `target_platform`.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

_target: contextvars.ContextVar[str | None] = contextvars.ContextVar("target_platform", default=None)


def on_cpu() -> bool:
    """Whether the program being traced will run on a CPU."""
    return (_target.get() or jax.default_backend()) == "cpu"


@contextlib.contextmanager
def target_platform(platform: str) -> Iterator[None]:
    """Traces for `platform` ("cpu", "gpu", "tpu") instead of the local default backend.

    A function that `jax.jit` has already traced keeps the form it was traced with: enter this before the first
    trace of a fresh function.
    """
    token = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(token)


def jit(function: Callable, once: bool = False, **options: Any) -> Callable:
    """`jax.jit` with the compiler's options that suit the platform.

    Args:
        function: What to compile.
        once: Whether it runs once only: then a CPU's program is optimised less, which takes a third of the time.
        options: Others of `jax.jit`.
    """
    if not on_cpu():
        return jax.jit(function, **options)
    compiler_options = _cpu_options() | ({"xla_backend_optimization_level": "1"} if once else {})
    return jax.jit(function, compiler_options=compiler_options or None, **options)


# What suits CPUs, each where this version of XLA knows it.
_CPU_OPTIONS = (
    # XLA's newer library computes convolutions on one thread; its older one uses all cores.
    {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_DOT"},
    # This pass takes the barriers away that keep what is to be computed again in the backward pass from being kept.
    {"xla_disable_hlo_passes": "cse_barrier_expander"},
)


@functools.cache
def _cpu_options() -> dict[str, str]:
    """Those of _CPU_OPTIONS that this version of XLA takes."""
    options = {}
    for option in _CPU_OPTIONS:
        try:
            jax.jit(lambda x: x, compiler_options=option).lower(0.0).compile()
        except Exception:  # whatever this version of XLA says to an option it does not know
            continue
        options |= option
    return options
