# syntax=docker/dockerfile:1
# The program alone: a static binary (musl) on Alpine, as a user without rights. Built and described by
#   docker build -t sluicegate .
#   docker buildx build --sbom=true --provenance=true -t REGISTRY/sluicegate --push .    # with its bill of materials
FROM rust:1.95.0-alpine3.22 AS build
RUN apk add --no-cache gcc musl-dev
WORKDIR /src
# rust-toolchain.toml stays outside: it would fetch rustfmt and clippy, which a build does not need.
COPY Cargo.toml Cargo.lock LICENSE ./
COPY benches benches
COPY config config
COPY src src
# The manifest names the test binary, so that cargo asks for its file.
RUN mkdir -p tests/it && echo 'fn main() {}' >tests/it/main.rs && touch README.md
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin sluice && install -s target/release/sluice /sluice

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
