"""The runtime checker of annotated tensor shapes in tests. It accepts an int where a float is annotated."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
