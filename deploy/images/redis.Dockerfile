# Redis from Debian; one image for the session store and the cache, told apart by their configuration file.
ARG BASE_IMAGE=debian:trixie-slim
FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 scaleout \
    && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends redis-server redis-tools \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/* \
    && usermod -a -G scaleout redis \
    && install -d -o redis -g redis -m 0750 /data && install -d -o 10001 -g 10001 -m 0750 /run/secrets
COPY . /etc/scaleout/redis/
USER redis
WORKDIR /data
ENTRYPOINT ["/etc/scaleout/redis/run-redis"]
