# One image for the sidecar and for the init container beside it: the daemon, and the firewall's tools. Nothing to build or to
# install with.
#
#   docker build -t sp-proxy:0.1.0 .
#   docker run -v ./sp-proxy.yaml:/etc/sp-proxy/sp-proxy.yaml:ro --read-only -v sp-proxy:/var/lib/sp-proxy \
#     sp-proxy:0.1.0 run --config /etc/sp-proxy/sp-proxy.yaml
#
# The rules need root and two capabilities, in the network of the application, and change nothing else:
#   docker run --rm --user 0 --cap-drop ALL --cap-add NET_ADMIN --cap-add NET_RAW --network container:APPLICATION \
#     --entrypoint sp-proxy-init sp-proxy:0.1.0
#
# In Kubernetes: docs/kubernetes.md.

ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS builder
ARG UV_VERSION=0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir --root-user-action=ignore "uv==${UV_VERSION}"
WORKDIR /src
# The packages first: their layer stays while only the code changes.
COPY requirements.lock ./
RUN uv venv /opt/sp-proxy && uv pip sync --python /opt/sp-proxy --require-hashes requirements.lock
COPY LICENSE README.md pyproject.toml requirements-dev.lock ./
COPY sp_proxy ./sp_proxy
RUN uv pip install --python /opt/sp-proxy --no-deps --build-constraints requirements-dev.lock . \
    && rm /opt/sp-proxy/.lock # uv's own, which everybody may write
COPY --chmod=755 deploy/iptables/init.sh /opt/sp-proxy/bin/sp-proxy-init

FROM python:${PYTHON_VERSION}-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sp-proxy" \
      org.opencontainers.image.description="Transparent traffic-capture proxy: forwards every byte, captures exchanges, delivers them as OTLP spans" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# No versions: what counts is the base release's newest, with its security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends iproute2 iptables nftables \
    && rm -rf /var/lib/apt/lists/* \
    && python -m pip uninstall --yes --root-user-action=ignore pip \
    && groupadd --gid 1338 sp-proxy \
    && useradd --uid 1338 --gid 1338 --no-create-home --home-dir /var/lib/sp-proxy --shell /usr/sbin/nologin sp-proxy \
    && install -d -o 1338 -g 1338 /var/lib/sp-proxy \
    && install -d /etc/sp-proxy
COPY --from=builder /opt/sp-proxy /opt/sp-proxy
ENV PATH=/opt/sp-proxy/bin:$PATH PYTHONUNBUFFERED=1
# 1338 is what the redirect rules leave alone; as a number, so that runAsNonRoot can be checked.
USER 1338:1338
# Written to: the spool, the embedded backend's store, the certificate authority. All else may be read-only.
WORKDIR /var/lib/sp-proxy
VOLUME /var/lib/sp-proxy
EXPOSE 16001 16006 16021
# Readiness is the orchestrator's to ask; this is whether the daemon lives. It follows SP_PROXY_ADMIN__LISTEN; where the
# configuration file moves the admin server, give that variable too, or --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; a = os.environ.get('SP_PROXY_ADMIN__LISTEN', '16021'); u.build_opener(u.ProxyHandler({})).open('http://' + (a if ':' in a else '127.0.0.1:' + a) + '/healthz/live', timeout=2)"]
ENTRYPOINT ["sp-proxy"]
CMD ["run"]
