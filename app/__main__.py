"""`python -m app`: serve with the environment's settings."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import uvicorn
from pydantic import ValidationError

from app.api.server import Protocol, Server
from app.errors import ArtifactError, SetupError
from app.main import create_app
from app.settings import Settings, variable_of
from app.telemetry.cores import available_cores
from app.telemetry.logs import configure


def main() -> int:
    """Serve until told to stop; 1 with a message if the settings or the model are refused."""
    # Also before the server listens for it (the first process of a container ignores what it does not ask for), and
    # after uvicorn has shut down, when it raises the signal once more.
    signal.signal(signal.SIGTERM, _exit_quietly)
    try:
        settings = Settings()
    except ValidationError as error:
        faults = "; ".join(f"{variable_of(e['loc'])}: {e['msg']}" for e in error.errors())
        return _refused(f"the settings are refused: {faults}")
    configure(settings.log_level, settings.log_format)
    _prepare_tensorflow(settings)
    return serve(settings)


def _prepare_tensorflow(settings: Settings) -> None:
    """Set the variables that TensorFlow reads when it is imported; what the environment says itself stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its notes are no log lines of ours
    # It imports all of Keras for what an artefact never has: three seconds and 120 MB. The older Keras that this names
    # isn't installed, and its absence is no error there.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    for name, setting, suits in (
        ("TF_NUM_INTRAOP_THREADS", settings.intra_op_threads, available_cores()),
        ("TF_NUM_INTEROP_THREADS", settings.inter_op_threads, 1),
    ):
        if setting is not None:
            os.environ[name] = str(setting)
        os.environ.setdefault(name, str(suits))


def serve(settings: Settings) -> int:
    """Listen, load the model, serve; 1 if the model is refused."""
    refusals: list[ArtifactError] = []

    def on_refusal(error: ArtifactError) -> None:
        refusals.append(error)
        server.should_exit = True

    def on_stop() -> None:
        if app.state.service is not None:
            app.state.service.stopping = True

    try:
        app = create_app(settings, on_refusal=on_refusal)
    except SetupError as error:
        return _refused(str(error))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    server = Server(config, on_stop=on_stop, delay_s=settings.shutdown_delay_s)
    shown = "localhost" if settings.host in ("127.0.0.1", "0.0.0.0", "::") else settings.host  # noqa: S104 shown, not bound
    print(f"Lightbox: http://{shown}:{settings.port} (documentation at /docs)", flush=True)
    server.run()
    return _refused(f"the model is refused: {refusals[0]}") if refusals else 0


def _refused(reason: str) -> int:
    print(f"lightbox: {reason}", file=sys.stderr)
    return 1


def _exit_quietly(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
