"""`python -m app.cluster`: start Ray on this machine, and serve until the process gets a signal to stop."""

from __future__ import annotations

import math
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any

from pydantic import ValidationError

from app.cluster.local_ray import prepare_environment, start
from app.cluster.settings import ClusterSettings
from app.settings import Settings, faults_of
from app.telemetry.cores import available_cores
from app.telemetry.logs import configure

_NAME = "lightbox"
_LOOK_S = 2.0
_DRAIN_S = 0.1
# Longer than load balancers keep idle connections, as in `app.api.server`.
_KEEP_ALIVE_S = 75


def main() -> int:
    """Serve until the process gets a signal to stop; return 1 if the settings, the port or the model are refused."""
    signal.signal(signal.SIGTERM, _exit_quietly)
    try:
        settings, cluster = Settings(), ClusterSettings()
    except ValidationError as error:
        return _failed(f"invalid settings: {faults_of(error)}")
    configure(settings.log_level, settings.log_format)
    if settings.port == 0:
        return _failed("LIGHTBOX_PORT is 0; name a port: Ray would choose one and not tell which")
    if not _is_free(settings.host, settings.port):
        # Ray would listen there as well, and the two servers would share the requests.
        return _failed(f"port {settings.port} of {settings.host} is taken; set LIGHTBOX_PORT to another one")
    prepare_environment()
    return _serve(settings, cluster)


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    return True


def _serve(settings: Settings, cluster: ClusterSettings) -> int:
    import ray  # noqa: PLC0415  # it reads the environment
    from ray import serve  # noqa: PLC0415  # likewise

    try:
        # Ray would wait forever for CPUs that the machine lacks. Who asks for more replicas gets them.
        replicas = len({settings.model, *cluster.own_replicas}) * (cluster.max_replicas or cluster.replicas)
        cpus = max(available_cores(), math.ceil(replicas * cluster.replica_cpus))
        port = cluster.ray_metrics_port or None
        if not start(cpus, dashboard=cluster.dashboard, _metrics_export_port=port):
            return _failed("Ray can't be started on this machine; see the log")
        signal.signal(signal.SIGTERM, _exit_quietly)  # Ray has set its own
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": settings.host, "port": settings.port, "keep_alive_timeout_s": _KEEP_ALIVE_S},
        )
        return _run(settings, cluster)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # what has begun to stop stops completely
        if ray.is_initialized():  # otherwise it would start Ray
            serve.shutdown()
            ray.shutdown()


def _run(settings: Settings, cluster: ClusterSettings) -> int:
    from ray import serve  # noqa: PLC0415  # it reads the environment

    from app.cluster.deployments import build  # noqa: PLC0415  # it imports Ray
    from app.cluster.replicas import refusal  # noqa: PLC0415  # likewise

    print(f"Lightbox: http://{settings.host}:{settings.port} (documentation at /docs)", flush=True)
    try:
        door = serve.run(build(settings, cluster), name=_NAME)
    except RuntimeError as error:  # what Ray raises if a deployment can't start
        application = serve.status().applications.get(_NAME)
        messages = [] if application is None else [each.message for each in application.deployments.values()]
        return _failed("; ".join(filter(None, map(refusal, messages))) or str(error))
    signals = threading.Semaphore(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: signals.release())
    while not signals.acquire(timeout=_LOOK_S):
        try:
            serve.status()
        except Exception as error:  # noqa: BLE001  # whatever Ray raises, this process has nothing to serve with
            return _failed(f"Ray has stopped: {error}")
    _drain(door, settings, signals)
    return 0


def _drain(door: Any, settings: Settings, signals: threading.Semaphore) -> None:
    """Report that the service is stopping, then admit no further request, and let the open ones finish.

    Ray itself would close the port at once and lose them. A second signal cuts the delay short.
    """
    door.broadcast("stop").results()
    signals.acquire(timeout=settings.shutdown_delay_s)
    door.broadcast("close").results()
    deadline = time.monotonic() + settings.shutdown_grace_s
    while sum(door.broadcast("in_flight").results()) and time.monotonic() < deadline:
        time.sleep(_DRAIN_S)


def _failed(reason: str) -> int:
    print(f"lightbox: {reason}", file=sys.stderr)
    return 1


def _exit_quietly(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
