"""Errors that end a command. Their messages say what failed, what was expected, and what to do.

ScriptError
├── ExportError     the model can't be packed
├── DataError       the data folder can't be used
├── CompareError    two versions can't be compared
└── WeightsError    the weights are not available
"""

from __future__ import annotations


class ScriptError(Exception):
    """The root of the tree: the command prints the message and exits with status 1."""


class ExportError(ScriptError):
    """The model can't be packed."""


class DataError(ScriptError):
    """The data folder can't be used."""


class CompareError(ScriptError):
    """Two versions can't be compared, or not by these requirements."""


class WeightsError(ScriptError):
    """The weights are not available."""
