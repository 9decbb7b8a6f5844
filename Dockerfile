# The image of the service, with its model store and without training code.
#   docker build --target cpu -t lightbox:cpu .
#   docker build --target gpu -t lightbox:gpu .
# The base image needs Python 3.11 or newer with venv and pip.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS base
RUN useradd --user-group --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lightbox

# pip runs from outside the environment, because the server does not need it. With --no-deps it resolves nothing, and so
# can't install a release that is newer than the lock. Bytecode is compiled here because the service can't write any,
# and without time stamps because some builders round them, which would make the bytecode stale.
FROM base AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/venv

FROM packages AS cpu-packages
COPY requirements.lock .
RUN python -m pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes -r requirements.lock \
    && python -m pip --python /opt/venv/bin/python check \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

FROM packages AS gpu-packages
COPY requirements.lock requirements-gpu.lock ./
RUN python -m pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes -r requirements.lock -r requirements-gpu.lock \
    && python -m pip --python /opt/venv/bin/python check \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

# Modes are set because the user of the service could not read files that were checked out under a strict umask.
FROM base AS files
WORKDIR /srv/lightbox
COPY app app
COPY model_store model_store
RUN python -m compileall -q --invalidation-mode unchecked-hash app \
    && chmod -R u=rwX,go=rX .

FROM base AS server
WORKDIR /srv/lightbox
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LIGHTBOX_HOST=0.0.0.0 \
    LIGHTBOX_PORT=8000 \
    LIGHTBOX_MODEL_STORE=/srv/lightbox/model_store
USER 10001:10001
EXPOSE 8000
# The check uses http.client because urllib would use a configured proxy.
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s --retries=3 CMD ["python", "-c", \
    "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['LIGHTBOX_PORT']), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "app"]

FROM server AS cpu
ENV TF_CPP_MIN_LOG_LEVEL=2
COPY --from=cpu-packages /opt/venv /opt/venv
COPY --from=files /srv/lightbox/model_store model_store
COPY --from=files /srv/lightbox/app app

# CUDA is installed from wheels. The NVIDIA container runtime adds the driver, as these variables request. TensorFlow's
# warnings are shown, because they say why a GPU is not used.
FROM server AS gpu
ENV TF_CPP_MIN_LOG_LEVEL=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-packages /opt/venv /opt/venv
COPY --from=files /srv/lightbox/model_store model_store
COPY --from=files /srv/lightbox/app app

# The service on Ray (docs/cluster.md): docker build --target ray -t lightbox:ray . Ray writes below HOME and /tmp.
FROM packages AS ray-packages
COPY requirements.lock requirements-ray.lock ./
RUN python -m pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes -r requirements.lock -r requirements-ray.lock \
    && python -m pip --python /opt/venv/bin/python check \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

FROM server AS ray
ENV TF_CPP_MIN_LOG_LEVEL=2 HOME=/tmp RAY_USAGE_STATS_ENABLED=0
COPY --from=ray-packages /opt/venv /opt/venv
COPY --from=files /srv/lightbox/model_store model_store
COPY --from=files /srv/lightbox/app app
CMD ["python", "-m", "app.cluster"]

# The CPU image is the default target.
FROM cpu
