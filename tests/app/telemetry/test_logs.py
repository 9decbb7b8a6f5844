"""What a line of the log looks like."""

import logging

from app.telemetry import logs


def test_on_a_terminal_lines_are_for_people(capsys):
    """No JSON where a person reads."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure("info", "text")
        logging.getLogger("lightbox.test").info("a lamp is lit")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert "INFO    a lamp is lit  [lightbox.test -]" in capsys.readouterr().err
