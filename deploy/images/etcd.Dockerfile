# etcd from Debian: Patroni's memory of who leads.
ARG BASE_IMAGE=debian:trixie-slim
FROM ${BASE_IMAGE}
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends etcd-server etcd-client \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/* \
    && install -d -o etcd -g etcd -m 0700 /var/lib/etcd/data
USER etcd
ENTRYPOINT ["/usr/bin/etcd"]
