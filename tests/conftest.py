"""What all tests share: the platform, the compilation cache, and shapes that are checked at run time."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxtyping

# Checks the annotated shapes and types of every call, and of the modules' fields.
jaxtyping.install_import_hook(
    ["jaxseg.models", "jaxseg.losses", "jaxseg.metrics", "jaxseg.engine", "jaxseg.inference"], "typecheck.check"
)

CACHE = Path(tempfile.gettempdir()) / "jaxseg-tests-xla"
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(CACHE)))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
# The figures of the reference are compared with exact float32 products, also on accelerators.
jax.config.update("jax_default_matmul_precision", "highest")
