# Runs the demo on a CPU. TORCH is what tools/setup.sh hands to pip; torch's own index has CPU builds.
# Without it, and with no CPU build on pip's index, it is CUDA's, of some gigabytes:
#   docker build --tag vared_mm --build-arg TORCH='torch==2.13.0 --index-url URL' .
#   docker run --rm vared_mm
FROM python:3.11-slim-bookworm
# Opened by OpenCV's wheel; g++ builds the kernels.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgl1 libglib2.0-0 libxcb1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /vared_mm
COPY . .
ARG TORCH=""
# Kept, as the demo looks whether it is set up with the same.
ENV PIP_NO_CACHE_DIR=1 TORCH=$TORCH
RUN bash tools/setup.sh
CMD ["bash", "tools/demo.sh"]
