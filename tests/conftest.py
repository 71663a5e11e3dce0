"""What all tests share: the platform, the compilation cache, and shapes that are checked at run time."""

import os
import tempfile
from pathlib import Path

CACHE = Path(tempfile.gettempdir()) / "jaxseg-tests-xla"
# As environment variables, so that the processes that tests start have them, too.
SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    # The figures of the reference are compared with exact float32 products, also on accelerators.
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "JAX_COMPILATION_CACHE_DIR": str(CACHE),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",  # else a copy of the cache in another folder is of no use
}
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)

import jaxtyping  # noqa: E402
import pytest  # noqa: E402

import runs  # noqa: E402

# Checks the annotated shapes and types of every call, and of the modules' fields.
jaxtyping.install_import_hook(
    ["jaxseg.models", "jaxseg.losses", "jaxseg.metrics", "jaxseg.engine", "jaxseg.inference"], "typecheck.check"
)


def pytest_configure(config: pytest.Config) -> None:
    # JAX writes its cache's files in place, so a test can meet one that another process is writing.
    config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation cache entry")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of the tiny recipe, made once for all workers; not to be written to."""

    def make(folder: Path) -> None:
        (folder / "out.txt").write_text(runs.command("train", *runs.TINY_RUN, cwd=folder).out)

    return runs.once(tmp_path_factory, "finished_run", make)
