# syntax=docker/dockerfile:1
# One static executable in an image without a shell, a package manager or libraries.
#
#   docker build --tag registry.example.com/platform/gatehouse:0.1.0 .
#   docker build --build-arg FEATURES=otel …                              # with traces for OpenTelemetry
#
# It is linked against glibc, statically: glibc's allocator serves many threads better than musl's, and since 2.34 it
# resolves names without libraries to load. Beside it there are the time zones (freezes name some), the CA certificates
# (a kubeconfig may rely on them) and a user without rights.
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Paths and times of the build stay out of the executable, so that the same sources make the same one. With --target,
# the flags are those of the executable and not of what runs during the build.
ENV CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_DIST_STRIP=symbols \
    RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/src=. --remap-path-prefix=/usr/local/cargo=/cargo"
ARG FEATURES=""
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    set -eu; \
    target="$(rustc -vV | sed -n 's/^host: //p')"; \
    cargo build --profile dist --locked --package gatehouse --bin gatehouse --features "$FEATURES" --target "$target"; \
    install -D -m 0555 "target/$target/dist/gatehouse" /out/gatehouse; \
    if ldd /out/gatehouse 2>/dev/null | grep '=>'; then echo 'not static' >&2; exit 1; fi; \
    echo 'nonroot:x:65532:65532::/:/gatehouse' > /out/passwd

FROM scratch
LABEL org.opencontainers.image.title="Gatehouse" \
      org.opencontainers.image.description="What is broken in a GitOps cluster, through the Kubernetes API; quotas and policies for its tenants" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /usr/share/zoneinfo /usr/share/zoneinfo
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/passwd /etc/passwd
COPY --from=build /out/gatehouse /gatehouse
COPY LICENSE /LICENSE
# A number, so that runAsNonRoot can be checked.
USER 65532:65532
EXPOSE 6443
ENTRYPOINT ["/gatehouse"]
