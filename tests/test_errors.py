"""Messages that name the nearest allowed word."""

import pytest

from jaxseg.errors import CheckpointError, ConfigError, DataError, JaxsegError, did_you_mean


@pytest.mark.parametrize(
    ("name", "allowed", "hint"),
    [
        ("PSPHed", ["PSPHead", "FCNHead"], "Did you mean PSPHead?"),
        ("lrr", ["lr", "weight_decay"], "Did you mean lr?"),
        ("xyz", ["b", "a"], "Allowed: a, b."),
        ("xyz", [], "Allowed: none."),
        (3, [1, 2], "Allowed: 1, 2."),
    ],
)
def test_did_you_mean(name, allowed, hint):
    assert did_you_mean(name, allowed) == hint


def test_many_names_are_cut_short():
    assert did_you_mean("nothing like it", [f"n{i:03}" for i in range(100)]).endswith("n039, ....")


def test_all_are_errors_of_input():
    for kind in (ConfigError, DataError, CheckpointError):
        assert issubclass(kind, JaxsegError)
        assert issubclass(kind, ValueError)
