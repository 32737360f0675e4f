# syntax=docker/dockerfile:1
# The same environment as `make setup`, from requirements.lock.
#   docker build -t dtql-jax .                               for CPUs
#   docker build -t dtql-jax:cuda --build-arg DEVICE=cuda .  for NVIDIA GPUs
#   docker run --rm -v "$PWD/runs:/work/runs" dtql-jax make train ENV=pointmaze-umaze OUT=runs/mine
#   docker run --rm --gpus all -v "$PWD/runs:/work/runs" dtql-jax:cuda make train ENV=antmaze-umaze
FROM python:3.11-slim

ARG DEVICE=cpu

# make and git (a run notes its commit); a software OpenGL for films (make video)
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libegl1 libgl1-mesa-dri libosmesa6 make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /work

# the packages change less often than the code: a layer of their own
COPY requirements.lock ./
RUN python -m venv .venv && .venv/bin/python -m pip install --no-cache-dir -r requirements.lock
# the GPU plugin of exactly the jax that is locked, which brings CUDA's libraries from PyPI
RUN if [ "$DEVICE" = cuda ]; then \
        version="$(.venv/bin/python -c 'import jax; print(jax.__version__)')" \
        && .venv/bin/python -m pip install --no-cache-dir -c requirements.lock "jax[cuda12]==$version"; \
    elif [ "$DEVICE" != cpu ]; then \
        echo "error: DEVICE is $DEVICE; expected cpu or cuda" >&2; exit 2; \
    fi

COPY . .
# .ready says to make that the environment is made
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --editable . && touch .venv/.ready

# datasets and compiled programs: mount a volume here to keep them
ENV MINARI_DATASETS_PATH=/data/minari DTQL_JAX_CACHE=/data/cache
VOLUME /data

CMD ["make", "help"]
