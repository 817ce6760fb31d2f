# syntax=docker/dockerfile:1
# Linted but never built by the project's own checks: they run where there is no container engine.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
# aws-lc, the cryptography behind TLS, is C.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
COPY . .
# The caches stay out of the image, so the binary is copied out of the target folder. Not the dist profile: its functions
# have other names than hack/functions-of-serve.ld, so that more of it would stay in memory.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin wva \
    && strip --output-file=/wva target/release/wva

# glibc, CA certificates and a user without rights; no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="wva" \
      org.opencontainers.image.description="Kubernetes metrics API server that tells a stock HPA how many replicas each LLM variant needs" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /wva /usr/local/bin/wva
# jemalloc would give each thread a heap of its own, and each keeps for a while what it once needed.
ENV MALLOC_CONF=narenas:1
USER 65532:65532
EXPOSE 6443
ENTRYPOINT ["/usr/local/bin/wva"]
CMD ["serve"]
