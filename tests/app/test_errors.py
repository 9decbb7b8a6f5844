"""The tree of errors: its drawing, and the status of each."""

import inspect
import re

import pytest

from app import errors
from app.api.problems import STATUSES

# A branch is drawn as "│   ├── Name   what it means": four characters for each level below the root.
DRAWN = re.compile(r"^((?:[│ ] {3})*)(?:[├└]── )(\w+Error)\s")
CLASSES = {
    name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.LightboxError)
}


def drawn_tree():
    """Every error that the module's docstring draws, and its parent there."""
    parents, path = {}, ["LightboxError"]
    for line in errors.__doc__.splitlines():
        if branch := DRAWN.match(line):
            indent, name = branch.groups()
            del path[len(indent) // 4 + 1 :]
            parents[name] = path[-1]
            path.append(name)
    return parents


def test_the_docstring_draws_the_tree_of_the_classes():
    """Every error is drawn once, below the class that it derives from."""
    derived = {name: kind.__base__.__name__ for name, kind in CLASSES.items()}
    assert derived.pop("LightboxError") == "Exception"
    assert drawn_tree() == derived
    drawn = re.findall(r"\w+Error\b", errors.__doc__)
    assert sorted(drawn) == sorted(CLASSES)


@pytest.mark.parametrize("kind", errors.InputError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_an_error_that_the_caller_can_mend_has_a_status_below_500(kind):
    """A client's mistake is never answered as a failure of the service."""
    for each in (kind, *kind.__subclasses__()):
        assert 400 <= next(STATUSES[ancestor] for ancestor in each.__mro__ if ancestor in STATUSES) < 500
