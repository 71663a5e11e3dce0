"""Compilation in the tests."""

from collections.abc import Callable
from typing import Any

import jax


def quick_jit(function: Callable, **options: Any) -> Callable:
    """`jax.jit` that compiles about twice as fast, to slower code: most tests run a program once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)
