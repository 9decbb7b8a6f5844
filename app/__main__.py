"""`python -m app`: serve with the environment's settings."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

import uvicorn

from app.errors import ArtifactError
from app.main import create_app, load_runtime
from app.settings import Settings


def main() -> int:
    """Load the model, then serve until told to stop; 1 if the model is refused."""
    # Also while the model loads (the first process of a container ignores what it does not ask for), and after uvicorn
    # has shut down, when it raises the signal once more.
    signal.signal(signal.SIGTERM, _exit_quietly)
    settings = Settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        runtime = load_runtime(settings)
    except ArtifactError as error:
        print(f"lightbox: the model is refused: {error}", file=sys.stderr)
        return 1
    shown = "localhost" if settings.host in ("127.0.0.1", "0.0.0.0", "::") else settings.host  # noqa: S104 shown, not bound
    print(f"Lightbox: http://{shown}:{settings.port} (documentation at /docs)", flush=True)
    uvicorn.run(create_app(settings, runtime), host=settings.host, port=settings.port, log_level=settings.log_level)
    return 0


def _exit_quietly(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
