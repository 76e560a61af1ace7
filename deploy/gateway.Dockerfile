# The gateway and the command: no torch, no compiler, no pip, no root.
#   docker build -f deploy/gateway.Dockerfile -t cogvideox-server/gateway:0.1.0 .
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY deploy/locks/build.txt deploy/locks/gateway.txt locks/
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --quiet --no-cache-dir --require-hashes -r locks/build.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --no-cache-dir --require-hashes -r locks/gateway.txt
COPY pyproject.toml README.md LICENSE ./
COPY video_jobs video_jobs
COPY server server
COPY gpu_worker gpu_worker
COPY cogvideox_server cogvideox_server
RUN /opt/tools/bin/pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --no-index --no-deps /wheels/*.whl \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/venv/sbom.cdx.json /opt/venv/bin/python

FROM ${BASE}
LABEL org.opencontainers.image.title="CogVideoX Server: gateway" \
      org.opencontainers.image.description="HTTP in, jobs out, for Zhipu's CogVideoX video API" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 cogvideox \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/cogvideox --shell /usr/sbin/nologin cogvideox \
    && install -d -o 10001 -g 10001 /var/lib/cogvideox
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    COGVIDEOX_STATE=/var/lib/cogvideox \
    COGVIDEOX_HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/cogvideox
EXPOSE 8000
# Kubernetes has probes of its own; this is for plain containers.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:%s/healthz' % os.environ.get('COGVIDEOX_PORT', '8000'), timeout=4)"]
ENTRYPOINT ["cogvideox-server"]
CMD ["gateway"]
