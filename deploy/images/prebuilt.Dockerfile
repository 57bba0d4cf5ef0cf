# One image a program of ours, from a binary that the host built: what `make up` uses. The context is a folder of binaries.
# A file of its own, because an engine without BuildKit builds every stage of a file up to the target.
#
#   SERVICE    the binary: dns, lb, app, session-store, db-proxy or stack
#   PACKAGES   Debian packages beside it (the tools image has some; the programs need none)
ARG BASE_IMAGE=debian:trixie-slim

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
COPY ${SERVICE} /usr/local/bin/${SERVICE}
RUN ${SERVICE} --version
