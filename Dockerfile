# The server and every other command, without root. compose.yaml runs it.
#   docker build --tag pocketcoder:local .
#   --build-arg TORCH_INDEX=URL    where torch comes from: PyTorch's CPU index saves gigabytes of CUDA packages
#   --build-arg CARD_MIB=8192      for an NVIDIA card of this much memory
#   --build-arg UID=1000           whose keys and runs are used: the user's own number
# Not built so far. Its last command ran on Debian 12, from a folder of what the image holds (docs/serving.md).
FROM python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1 AS base
# vLLM binds its threads by libnuma; Triton compiles its launchers on a card. Debian's mirrors keep one version of each.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libgomp1 libnuma1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /pocketcoder

FROM base AS setup
ARG TORCH_INDEX=
ARG CARD_MIB=
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
COPY Makefile pyproject.toml ./
COPY constraints constraints
# Redis' client is in neither set of dependencies; both files of pins have it.
RUN make setup TORCH_INDEX="${TORCH_INDEX}" CARD_MIB="${CARD_MIB}" \
    && .venv/bin/uv pip install --python .venv --compile-bytecode --constraint constraints/cpu.txt redis

FROM base
ARG UID=1000
RUN useradd --uid "${UID}" --create-home pocketcoder \
    && install --directory --owner=pocketcoder --group=pocketcoder /models /runs
COPY --from=setup /pocketcoder/.venv .venv
COPY LICENSE pyproject.toml ./
COPY app app
COPY actors actors
COPY tune_spaces tune_spaces
COPY datasets datasets
COPY serve_configs serve_configs
ENV PATH="/pocketcoder/.venv/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models/huggingface \
    POCKETCODER_CACHE=/models \
    POCKETCODER_RUNS=/runs \
    POCKETCODER_KEYS=/run/secrets/keys.json
USER ${UID}
VOLUME ["/models", "/runs"]
EXPOSE 8000
# A first start fetches weights. It answers 200 once an engine does.
HEALTHCHECK --interval=15s --timeout=10s --start-period=30m --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=8)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve", "--profile", "laptop", "--host", "0.0.0.0", "--port", "8000"]
