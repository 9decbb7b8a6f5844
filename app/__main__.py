"""`python -m app`: run the server with settings from the environment."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import uvicorn
from pydantic import ValidationError

from app.api.server import HttpProtocol, Server
from app.errors import ArtifactError, SetupError
from app.main import create_app
from app.serving.environment import prepare_tensorflow
from app.settings import Settings, faults_of
from app.telemetry.cores import available_cores
from app.telemetry.logs import configure


def main() -> int:
    """Serve until the process gets a signal to stop; return 1 if the settings or the model are refused."""
    # uvicorn handles the signal only while it serves. Before, the first process of a container would ignore it, and
    # uvicorn raises it again after shutting down.
    signal.signal(signal.SIGTERM, _exit_quietly)
    try:
        settings = Settings()
    except ValidationError as error:
        return _failed(f"invalid settings: {faults_of(error)}")
    configure(settings.log_level, settings.log_format)
    prepare_tensorflow(settings, available_cores())
    return serve(settings)


def serve(settings: Settings) -> int:
    """Listen, load the model and serve; return 1 if the model is refused."""
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
        return _failed(str(error))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=HttpProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    server = Server(config, on_stop=on_stop, delay_s=settings.shutdown_delay_s)
    host = "localhost" if settings.host in ("127.0.0.1", "0.0.0.0", "::") else settings.host  # noqa: S104  # for display
    print(f"Lightbox: http://{host}:{settings.port} (documentation at /docs)", flush=True)
    server.run()
    return _failed(f"the model is refused: {refusals[0]}") if refusals else 0


def _failed(reason: str) -> int:
    print(f"lightbox: {reason}", file=sys.stderr)
    return 1


def _exit_quietly(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
