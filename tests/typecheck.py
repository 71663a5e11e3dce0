"""The type checker of the tests."""

from beartype import BeartypeConf, beartype

# Also takes an int for a float, as every type checker does.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
