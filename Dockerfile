# Image for the CPU:
#   docker build --tag neftune .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" neftune sweep --alphas 0,5 --seeds 3
# For a GPU, give the index of a CUDA build, for example
#   --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
# and run with --gpus all.
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY constraints.txt .
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url https://pypi.org/simple \
    --index-url "$TORCH_INDEX" torch
COPY pyproject.toml README.md LICENSE ./
COPY neftune_cli neftune_cli
RUN pip install --no-cache-dir --constraint constraints.txt .

# Caches are in /cache, which any user may write, so that --user works with a user that the image does not know.
ENV HOME=/cache XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface MPLCONFIGDIR=/cache/matplotlib
RUN useradd --home-dir /cache neftune && mkdir --mode 1777 /cache /work
USER neftune
WORKDIR /work
ENTRYPOINT ["neftune"]
CMD ["--help"]
