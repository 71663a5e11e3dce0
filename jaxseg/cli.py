"""What the verbs share: flags, recipes and their overrides, the compilation cache, errors without a traceback."""

import argparse
import importlib.util
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxseg import config as run_config
from jaxseg.errors import ConfigError, JaxsegError, did_you_mean

OVERRIDE = "--config."
INTERRUPTED = 130  # the exit status of a command that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """Flags of a verb. Its help is the module's docstring and these flags.

    Args:
        verb: Its name, as in `python -m jaxseg.VERB`.
        usage: The docstring of the verb's module.
    """

    def __init__(self, verb: str, usage: str):
        super().__init__(
            prog=f"python -m jaxseg.{verb}",
            description=usage.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--import", dest="modules", action="append", default=[], metavar="MODULE",
            help="a Python module with classes of your own that the recipe or the run names; it is run",
        )  # fmt: skip

    def add_config(self, default: str) -> None:
        """Adds --config, a recipe, and its overrides; `default` is a file among the shipped recipes."""
        self.add_argument("--config", default=default, metavar="FILE.py[:NAME]", help=f"the recipe; default: {default}")
        self.add_argument(
            f"{OVERRIDE}FIELD", dest="override", metavar="VALUE", help="another value for a field of the recipe"
        )

    def error(self, message: str) -> NoReturn:
        """Ends the verb: its flags can't be used."""
        _, unknown, words = message.partition("unrecognized arguments: ")
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            word = words.split()[0].split("=")[0]
            near = did_you_mean(word, flags) if word.startswith("-") else ""
            message = f"{word} means nothing here. {near}".strip()
        print(f"error: {message}\nSee {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def main(parser: Parser, run: Callable[[argparse.Namespace], None], argv: Sequence[str] | None = None) -> None:
    """Runs a verb: its errors of input end it with their message and exit status 2.

    Args:
        parser: Its flags.
        run: Takes their values; `config` among them is the recipe with its overrides.
        argv: The words of the command; None: those of this process.
    """
    if argv is None:
        use_huge_pages()
    _quiet()
    previous, sys.unraisablehook = sys.unraisablehook, _deliver_interrupts(sys.unraisablehook)
    words, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
    try:
        args = parser.parse_args(words)
        for name in args.modules:
            import_module(name)
        if hasattr(args, "config"):
            args.config = run_config.override(run_config.load_chosen(args.config, overrides), overrides)
        elif overrides:
            parser.error(f"unrecognized arguments: {OVERRIDE}{overrides[0][0]}")
        run(args)
    except JaxsegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        sys.unraisablehook = previous


def import_module(name: str) -> None:
    """Imports a module of the user's, whose classes configs can name from then on.

    Raises:
        ConfigError: There is none of this name.
    """
    try:
        found = not name.endswith(".py") and importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if not found:
        wanted = f"--import={Path(name).stem}" if name.endswith(".py") else "--import=my_head for ./my_head.py"
        raise ConfigError(f"--import={name}: there is no such module, here or installed. Give its name, as in {wanted}")
    importlib.import_module(name)


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Parts `--config.FIELD=VALUE` and `--config.FIELD VALUE` from the other words of a command.

    Returns:
        The other words; pairs of field and value, None where no value follows.
    """
    others, overrides = [], []
    remaining = iter(enumerate(words))
    for i, word in remaining:
        if not word.startswith(OVERRIDE) or word == OVERRIDE:
            others.append(word)
            continue
        name, equals, value = word.removeprefix(OVERRIDE).partition("=")
        if not equals and i + 1 < len(words) and not words[i + 1].startswith("--"):
            value, equals = next(remaining)[1], "="
        overrides.append((name, value if equals else None))
    return others, overrides


def set_compilation_cache(folder: str) -> None:
    """Keeps compiled programs in a folder, so that the next start is quick; "" keeps none."""
    import jax

    if folder and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def use_huge_pages() -> None:
    """Starts this command once more with huge pages for large allocations, where the system leaves that to programs.

    XLA on a CPU allocates a step's working memory anew in every step, gigabytes of it, and touching that in pages of
    4 kB costs a third of a step. Only the C library's environment at the start of a process can change that.
    """
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    library, version = platform.libc_ver()
    known = library == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= (2, 35)
    if (
        not known
        or "glibc.malloc.hugetlb" in tunables
        or not setting.is_file()
        or "[madvise]" not in setting.read_text()
    ):
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(part for part in (tunables, "glibc.malloc.hugetlb=1") if part)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _deliver_interrupts(otherwise: Callable[[Any], None]) -> Callable[[Any], None]:
    """A hook for exceptions that Python can't raise: a Ctrl-C in the middle of JAX's garbage collection comes again."""

    def hook(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()  # at once it would be lost again
        else:
            otherwise(unraisable)

    return hook


def _quiet() -> None:
    """The libraries below tell a lot through absl; what they warn of is enough."""
    from absl import logging

    logging.set_verbosity(logging.WARNING)
