# Runs the demo on a CPU: docker build --tag vared_mm . && docker run --rm vared_mm
FROM python:3.11-slim-bookworm
# Opened by OpenCV's wheel; g++ builds the kernels.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgl1 libglib2.0-0 libxcb1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /vared_mm
COPY . .
ENV PIP_NO_CACHE_DIR=1 TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
RUN bash tools/setup.sh
CMD ["bash", "tools/demo.sh"]
