# One image a program of ours, built from source: what `docker compose up` alone uses. Classic syntax, for engines without
# BuildKit. The build stage is the same for all programs, so it runs once.
#
#   SERVICE    the binary: dns, lb, app, session-store, db-proxy or stack
#   PACKAGES   Debian packages beside it (the tools image has some; the programs need none)
ARG BASE_IMAGE=debian:trixie-slim
ARG RUST_IMAGE=rust:1-trixie

FROM ${RUST_IMAGE} AS build
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY service-kit service-kit
COPY dns dns
COPY lb lb
COPY app app
COPY session-store session-store
COPY db-proxy db-proxy
COPY tests tests
RUN cargo build --locked --profile ci --workspace --bins && mkdir /out \
    && for binary in dns lb app session-store db-proxy stack; do strip -o /out/$binary target/ci/$binary; done \
    && rm -rf target

FROM ${BASE_IMAGE}
ARG PACKAGES=
RUN if [ -n "$PACKAGES" ]; then \
        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $PACKAGES \
        && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/*; \
    fi
# The number is shared by every image: the secrets volume is readable for this group and nobody else.
RUN groupadd --gid 10001 scaleout && useradd --no-create-home --uid 10001 --gid 10001 --shell /usr/sbin/nologin scaleout \
    && install -d -o 10001 -g 10001 -m 0750 /run/secrets && install -d /etc/scaleout
ARG SERVICE
ENV SERVICE=${SERVICE}
ENTRYPOINT ["/bin/sh", "-c", "exec \"$SERVICE\" \"$@\"", "--"]
USER 10001:10001
COPY --from=build /out/${SERVICE} /usr/local/bin/${SERVICE}
RUN ${SERVICE} --version
