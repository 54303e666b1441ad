# CPU image. `docker build -t patchlight .`
#
# The ONNX Runtime library is fetched while building, through pip, by the build script of the crate
# (src/build/onnxruntime.toml names it by version and digest), and travels beside the program.

ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-pip \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The build's own report says where the library lies: with a cached target directory there can be
# one of an older version too.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package patchlight \
      --message-format=json-render-diagnostics > /tmp/build.json \
 && library=$(sed -n 's/.*"PATCHLIGHT_ORT_DYLIB","\([^"]*\)".*/\1/p' /tmp/build.json) \
 && install -D --mode=755 target/release/patchlight /out/bin/patchlight \
 && install -D --mode=644 "$library" "/out/lib/$(basename "$library")"

FROM debian:bookworm-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="patchlight" \
      org.opencontainers.image.description="Serve a Vision Transformer over HTTP: labels, and which patches the model looked at" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/patchlight/patchlight" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /usr/local/
COPY models/demo/ /usr/local/share/patchlight/models/demo/
COPY LICENSE NOTICE /usr/local/share/doc/patchlight/
# By number, so that Kubernetes can tell that it is not root. The program writes no file: a read-only
# root needs no volume.
USER 10001:10001
ENV PATCHLIGHT_LISTEN=0.0.0.0:8080
EXPOSE 8080
# Drains: not ready at once, then what is running is finished. `docker stop` needs --time 30 for it.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["/usr/local/bin/patchlight", "health"]
ENTRYPOINT ["/usr/local/bin/patchlight"]
