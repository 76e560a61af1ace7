# The worker: torch, diffusers and the encoder, no weights, no root.
#   docker build -f deploy/worker.Dockerfile -t cogvideox-server/worker:0.1.0 .
# On a CPU, from an index of CPU builds of torch:
#   docker build -f deploy/worker.Dockerfile -t cogvideox-server/worker:0.1.0-cpu \
#     --build-arg BASE=python:3.12-slim-bookworm --build-arg COMPILER= --build-arg TORCH=cpu --build-arg TORCH_INDEX=URL .
ARG BASE=nvidia/cuda:13.0.1-base-ubuntu24.04

# A CUDA image brings no Python, a Python image no CUDA: either will do.
FROM ${BASE} AS python
# hadolint ignore=DL3008
RUN if ! command -v python3 >/dev/null; then \
        apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; \
    fi

FROM python AS build
# Which of locks/torch-*.txt: `cuda` or `cpu`; and the index it comes from, if not pip's own.
ARG TORCH=cuda
ARG TORCH_INDEX=
WORKDIR /src
COPY deploy/locks/build.txt deploy/locks/worker.txt deploy/locks/torch-${TORCH}.txt locks/
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --quiet --no-cache-dir --require-hashes -r locks/build.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --no-cache-dir --no-deps ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} -r "locks/torch-${TORCH}.txt"
# Its own layer: torch changes seldom, and is most of the image.
RUN /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --no-cache-dir --require-hashes --no-deps -r locks/worker.txt \
    && { /opt/venv/bin/python -c 'import torch' \
    || { echo "This torch wants CUDA packages that TORCH=${TORCH} leaves out: set TORCH_INDEX to an index of CPU builds." >&2; exit 1; }; }
COPY pyproject.toml README.md LICENSE ./
COPY video_jobs video_jobs
COPY server server
COPY gpu_worker gpu_worker
COPY cogvideox_server cogvideox_server
RUN /opt/tools/bin/pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --no-index --no-deps /wheels/*.whl \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/venv/sbom.cdx.json /opt/venv/bin/python

FROM python
# Triton compiles what it launches kernels with on the spot: without a C compiler torch.compile falls back. Empty for CPUs.
ARG COMPILER="gcc libc6-dev python3-dev"
# hadolint ignore=DL3008,SC2086
RUN if [ -n "${COMPILER}" ]; then \
        apt-get update && apt-get install -y --no-install-recommends ${COMPILER} && rm -rf /var/lib/apt/lists/*; \
    fi
LABEL org.opencontainers.image.title="CogVideoX Server: worker" \
      org.opencontainers.image.description="Renders CogVideoX videos: a job id in, a video in the store" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 cogvideox \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/cogvideox --shell /usr/sbin/nologin cogvideox \
    && install -d -o 10001 -g 10001 /var/lib/cogvideox
COPY --from=build /opt/venv /opt/venv
# What the NVIDIA runtime gives to a container that asks by these names, whatever its base.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    COGVIDEOX_STATE=/var/lib/cogvideox \
    COGVIDEOX_WORKER_PORT=9100
USER 10001:10001
WORKDIR /var/lib/cogvideox
EXPOSE 9100
# Alive only: loading a model takes minutes, and a busy device is no illness.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:%s/healthz' % os.environ.get('COGVIDEOX_WORKER_PORT', '9100'), timeout=4)"]
ENTRYPOINT ["cogvideox-server"]
CMD ["worker"]
