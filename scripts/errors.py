"""What the offline side refuses: the message says what, why, and what to do."""

from __future__ import annotations


class ScriptError(Exception):
    """Root: the command ends with status 1 and this message."""


class ExportError(ScriptError):
    """The model can't be packed."""


class DataError(ScriptError):
    """The data folder can't be used."""


class WeightsError(ScriptError):
    """The weights can't be had."""
