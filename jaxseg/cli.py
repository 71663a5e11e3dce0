"""What the verbs share: the --config flag, the compilation cache, and errors without a traceback."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from jaxseg import config as run_config
from jaxseg.errors import JaxsegError


def config_flag(default: str) -> flags.FlagHolder:
    """Defines --config, a recipe and its overrides; `default` is a file among the shipped recipes."""
    path = run_config.recipe_folder() / default
    return config_flags.DEFINE_config_file("config", str(path), "The recipe: FILE.py or FILE.py:NAME.")


def main(run: Callable[[Sequence[str]], None], usage: str, takes_arguments: bool = False) -> None:
    """Runs a verb: its errors of input end it with their message and exit status 2."""
    app.usage = lambda *args, **kwargs: None
    sys.modules["__main__"].__doc__ = usage
    try:
        argv = _resolve(sys.argv)
        app.run(lambda rest: _run(run, rest, takes_arguments), argv=argv)
    except JaxsegError as error:
        _fail(error)


def set_compilation_cache(folder: str) -> None:
    """Keeps compiled programs in a folder, so that the next start is quick; "" keeps none."""
    import jax

    if folder and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _run(run: Callable[[Sequence[str]], None], argv: Sequence[str], takes_arguments: bool) -> None:
    if len(argv) > 1 and not takes_arguments:
        print(f"unexpected argument {argv[1]!r}; see --help", file=sys.stderr)
        sys.exit(2)
    if not any(word.startswith(("--verbosity", "-v")) for word in sys.argv):
        logging.set_verbosity(logging.WARNING)  # the libraries below talk a lot
    try:
        run(argv)
    except JaxsegError as error:
        _fail(error)


def _fail(error: JaxsegError) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _resolve(argv: Sequence[str]) -> list[str]:
    """Makes --config an absolute path, wherever the recipe was found."""
    resolved = list(argv)
    for i, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-config") and equals:
            resolved[i] = f"--config={run_config.find_recipe(value)}"
        elif flag in ("--config", "-config") and i + 1 < len(argv):
            resolved[i + 1] = run_config.find_recipe(argv[i + 1])
    return resolved
