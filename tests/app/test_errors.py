"""The error tree is complete, and drawn as it is."""

import inspect

from app import errors
from app.api.problems import STATUSES


def test_the_docstring_draws_every_error():
    """A new error is added to the drawing."""
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.LightboxError)]
    assert len(classes) > 10
    for each in classes:
        assert each.__name__ in errors.__doc__


def test_every_error_of_a_caller_has_a_status_below_500():
    """No mistake of a client is answered as one of ours."""
    leaves = [
        c
        for _, c in inspect.getmembers(errors, inspect.isclass)
        if issubclass(c, errors.InputError) and not c.__subclasses__()
    ]
    for each in leaves:
        status = next(STATUSES[kind] for kind in each.__mro__ if kind in STATUSES)
        assert 400 <= status < 500
