# docker build -t patchlight .                          what runs on CPUs (the last stage)
# docker build -t patchlight:cuda --target cuda .       what runs on NVIDIA GPUs, x86-64
#
# The final images hold no system but the libraries that the program loads: no shell, no package
# manager, nothing to update. container/assemble lays them out. docs/container.md says how they are
# run, and how a model is baked in or mounted.

ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-bookworm AS source
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-pip \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .

FROM source AS build-cpu
ARG REVISION=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    PATCHLIGHT_COMMIT="${REVISION}" container/assemble

FROM source AS build-cuda
ARG REVISION=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    PATCHLIGHT_COMMIT="${REVISION}" container/assemble cuda

# CUDA and cuDNN as NVIDIA packages them for pip, pinned by digest.
FROM source AS cuda-libraries
RUN python3 -m pip install --no-deps --no-compile --only-binary=:all: --require-hashes \
      --target /tmp/nvidia --requirement container/cuda-requirements.txt \
 && mkdir -p /out/usr/local/lib /out/usr/local/share/doc \
 && find /tmp/nvidia/nvidia -name 'lib*.so*' -exec mv -t /out/usr/local/lib {} + \
 && find /tmp/nvidia -maxdepth 1 -name '*.dist-info' -exec mv -t /out/usr/local/share/doc {} +

# What all images have in common.
FROM scratch AS base
LABEL org.opencontainers.image.title="patchlight" \
      org.opencontainers.image.description="Serve a Vision Transformer over HTTP: labels, and which patches the model looked at" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/patchlight/patchlight" \
      org.opencontainers.image.documentation="https://github.com/patchlight/patchlight/blob/main/docs/container.md"
# By number, so that Kubernetes can tell that it is not root. The program writes no file: a read-only
# root needs no volume.
USER 10001:10001
ENV PATCHLIGHT_LISTEN=0.0.0.0:8080
EXPOSE 8080
# Drains: not ready at once, then what is running is finished. `docker stop` needs --time 30 for it.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["/usr/local/bin/patchlight", "health"]
ENTRYPOINT ["/usr/local/bin/patchlight"]

FROM base AS cuda
COPY --from=cuda-libraries /out/ /
COPY --from=build-cuda /out/ /
# The driver's own libraries are put into Debian's folder when the container starts, and there is no
# ldconfig here that would list them.
ENV LD_LIBRARY_PATH=/usr/local/lib:/usr/lib/x86_64-linux-gnu \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Here and in the next image behind the program, which differs with each commit: some builders would
# take a label of an earlier build from their cache.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS cpu
COPY --from=build-cpu /out/ /
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
