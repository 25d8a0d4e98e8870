# syntax=docker/dockerfile:1
# The program alone: a static binary (musl) on Alpine, as a user without rights.
#   docker build -t sluicegate .
#   docker build --build-arg FEATURES=otlp -t sluicegate .      # exports spans (docs/traces.md)
# The binary carries its bill of materials (cargo-auditable: every crate and version), which syft, trivy and
# cargo-audit read out of it and out of the image; that of the whole image, Alpine's packages too, and its provenance:
#   docker buildx build --sbom=true --provenance=true -t REGISTRY/sluicegate --push .
FROM rust:1.95.0-alpine3.22 AS build
ARG FEATURES=
RUN apk add --no-cache gcc musl-dev && cargo install --locked cargo-auditable@0.7.7
WORKDIR /src
# What .dockerignore lets in. Not rust-toolchain.toml: it would fetch rustfmt and clippy, which a build does not need.
COPY . .
# The manifest names the test binary, so that cargo asks for its file.
RUN mkdir -p tests/it && echo 'fn main() {}' >tests/it/main.rs && touch README.md
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo auditable build --release --locked --bin sluice --features "$FEATURES" && install target/release/sluice /sluice && \
    strip --strip-debug /sluice

FROM alpine:3.22
# Authorities for https and amqps; time zones for [schedule].
RUN apk add --no-cache ca-certificates tzdata && adduser -D -H -u 10001 sluice
COPY --from=build /sluice /usr/local/bin/sluice
USER 10001
EXPOSE 9464
# Works: the process answers. Whether a broker is attached says /readyz; restarting does not mend that.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD wget -q -O /dev/null http://127.0.0.1:9464/healthz
ENTRYPOINT ["/usr/local/bin/sluice"]
CMD ["run", "-c", "/etc/sluice/sluice.toml"]
