# Postgres 17 with pgvector under Patroni, from Debian.
ARG BASE_IMAGE=debian:trixie-slim
FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 scaleout && mkdir -p /etc/postgresql-common \
    && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
    && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        postgresql-17 postgresql-17-pgvector patroni python3-psycopg2 python3-etcd \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/* \
    && usermod -a -G scaleout postgres \
    && install -d /srv/stack && install -d -o postgres -g postgres -m 0700 /srv/stack/data && install -d -m 1777 /srv/stack/run \
    && install -d -o 10001 -g 10001 -m 0750 /run/secrets
COPY . /srv/stack/config/
USER postgres
ENV PG_SECRETS=/run/secrets
ENTRYPOINT ["/srv/stack/config/run-patroni"]
