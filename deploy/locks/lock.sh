#!/usr/bin/env bash
# Locks what the images hold, for every Python that we support: `make locks`. Torch and its CUDA packages are pinned by
# version alone, since their builds differ by platform and index; everything else by hash.
set -euo pipefail
cd "$(dirname "$0")/../.."

compile() {
    uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate "$@"
}
# Lines of this shape are torch's own; the hashed lock leaves them out.
torch='^(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)=='

compile --generate-hashes --extra tracing pyproject.toml --output-file deploy/locks/gateway.txt
compile --extra worker pyproject.toml | grep -E "$torch" >deploy/locks/torch-cuda.txt
grep -E '^torch==' deploy/locks/torch-cuda.txt >deploy/locks/torch-cpu.txt
mapfile -t left_out < <(sed -E 's/==.*//; s/^/--no-emit-package=/' deploy/locks/torch-cuda.txt)
compile --generate-hashes --extra worker --extra tracing pyproject.toml "${left_out[@]}" --output-file deploy/locks/worker.txt
compile --generate-hashes deploy/locks/build.in --output-file deploy/locks/build.txt
