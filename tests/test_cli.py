"""How a command's words are read, and how it ends."""

import time

import pytest

from jaxseg import cli
from jaxseg.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("words", "others", "overrides"),
    [
        (["--config=a.py", "--config.x.y=1"], ["--config=a.py"], [("x.y", "1")]),
        (["--config.x", "1", "--config", "a.py"], ["--config", "a.py"], [("x", "1")]),
        (["--config.x=a=b"], [], [("x", "a=b")]),
        (["--config.x="], [], [("x", "")]),
        (["--config.x", "--workdir", "w"], ["--workdir", "w"], [("x", None)]),
        (["--config.x"], [], [("x", None)]),
        (["--config.x", "-1"], [], [("x", "-1")]),
        (["--config.x=1", "--config.x=2"], [], [("x", "1"), ("x", "2")]),
        (["--workdir=w", "file"], ["--workdir=w", "file"], []),
    ],
)
def test_split_overrides(words, others, overrides):
    assert cli.split_overrides(words) == (others, overrides)


def make_parser():
    parser = cli.Parser("verb", "What it does.\n\nAnd more.")
    parser.add_config("configs/demo.py")
    parser.add_argument("--workdir")
    return parser


def test_the_recipe_and_its_overrides_arrive():
    taken = []
    cli.main(make_parser(), taken.append, ["--config.total_steps=7", "--workdir", "w"])
    assert taken[0].config.name == "demo"
    assert taken[0].config.total_steps == 7
    assert taken[0].workdir == "w"


@pytest.mark.parametrize("error", [ConfigError("The field is wrong."), DataError("The file is wrong.")])
def test_errors_of_input_end_with_status_2(error, capsys):
    def run(args):
        raise error

    with pytest.raises(SystemExit) as end:
        cli.main(make_parser(), run, [])
    assert end.value.code == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"error: {error}\n")


def test_other_errors_keep_their_traceback():
    def run(args):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.main(make_parser(), run, [])


def test_interrupt(capsys):
    def run(args):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        cli.main(make_parser(), run, [])
    assert end.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def test_interrupt_where_python_swallows_it(capsys):
    class Swallows:
        def __del__(self):
            raise KeyboardInterrupt

    def run(args):
        Swallows()
        time.sleep(5)

    began = time.monotonic()
    with pytest.raises(SystemExit) as end:
        cli.main(make_parser(), run, [])
    assert end.value.code == 130
    assert time.monotonic() - began < 4
    assert capsys.readouterr().err == "stopped\n"


def test_abbreviations_are_no_flags(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(make_parser(), print, ["--work=w"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "--work means nothing here. Did you mean --workdir?" in said
    assert "python -m jaxseg.verb --help" in said


def test_modules_are_imported_before_the_recipe_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "first_of_mine.py").write_text("from ml_collections import ConfigDict\n")
    (tmp_path / "second_of_mine.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "recipe.py").write_text(
        "import sys\nfrom jaxseg.configs import demo\nassert 'first_of_mine' in sys.modules\n"
        "get_config = demo.get_config\n"
    )
    taken = []
    cli.main(make_parser(), taken.append, ["--import=first_of_mine", "--config=recipe.py", "--import", "json"])
    assert taken[0].modules == ["first_of_mine", "json"]
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):  # what the module does wrong itself
        cli.main(make_parser(), print, ["--import=second_of_mine"])


@pytest.mark.parametrize("name", ["missing_mine", "missing.mine", "json.missing", "", ".", "mine.py", "./mine.py"])
def test_no_such_module(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(make_parser(), print, [f"--import={name}"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --import={name}: there is no such module, here or installed.")
    assert said.endswith("as in --import=mine\n") == name.endswith(".py")


def test_two_verbs_live_in_one_process():
    from jaxseg import evaluate, predict, train

    for verb in (train, evaluate, predict):
        assert verb.make_parser().description == verb.__doc__.strip()


def test_compilation_cache(monkeypatch, tmp_path):
    import jax

    before = jax.config.jax_compilation_cache_dir
    cli.set_compilation_cache(str(tmp_path))  # the environment's comes first
    assert jax.config.jax_compilation_cache_dir == before
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    cli.set_compilation_cache("")
    assert jax.config.jax_compilation_cache_dir == before
    try:
        cli.set_compilation_cache(str(tmp_path))
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
