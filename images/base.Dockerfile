# The base of the node image where a registry answers: Debian trixie with the packages.
ARG DEBIAN
FROM ${DEBIAN}
COPY dpkg.cfg /etc/dpkg/dpkg.cfg.d/testbed
COPY packages.txt /tmp/packages.txt
RUN apt-get update \
    && sed '/^#/d' /tmp/packages.txt \
     | DEBIAN_FRONTEND=noninteractive xargs apt-get install --yes --no-install-recommends \
    && rm -rf /tmp/packages.txt /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
