"""Envoy's configuration for the comparison: what an Istio sidecar has on the way of a request, less its Wasm filters.

One listener with the HTTP inspector, an HTTP connection manager, one cluster that speaks what the client speaks. Limits
and timeouts as Istio sets them: circuit breakers open, no route or idle timeout. As JSON, which Envoy reads as well.
"""

import json
from typing import Any

_TYPE = "@type"
_PREFIX = "type.googleapis.com/envoy"

LUA = """
local function hex(count)
  local digits = {}
  for index = 1, count do digits[index] = string.format("%x", math.random(0, 15)) end
  return table.concat(digits)
end
function envoy_on_request(handle)
  local headers = handle:headers()
  local traceparent = headers:get("traceparent")
  if traceparent == nil then
    traceparent = "00-" .. hex(32) .. "-" .. hex(16) .. "-01"
    headers:add("traceparent", traceparent)
  end
  local state = headers:get("tracestate")
  local entry = "x-sp-traceparent=" .. traceparent
  headers:replace("tracestate", state and (entry .. "," .. state) or entry)
  headers:replace("x-sp-service-name", "orders")
  headers:replace("x-service-name", "orders")
  headers:replace("x-current-service", "orders")
end
"""
"""The headers that our relay adds, by Lua."""


def config(port: int, origin: int, *, otlp: int | None) -> str:
    """Forward ``port`` to ``origin``; with ``otlp``, add headers by Lua and send a span of each request there."""
    clusters = [_cluster("origin", origin)]
    filters: list[dict[str, Any]] = []
    manager: dict[str, Any] = {
        _TYPE: f"{_PREFIX}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inbound",
        "codec_type": "AUTO",
        "use_remote_address": False,
        "normalize_path": True,
        "stream_idle_timeout": "0s",
        "route_config": {
            "name": "inbound",
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": "0s"}}],
                }
            ],
        },
    }
    if otlp is not None:
        clusters.append(_cluster("otlp", otlp))
        filters.append(
            {
                "name": "lua",
                "typed_config": {
                    _TYPE: f"{_PREFIX}.extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": LUA},
                },
            }
        )
        manager["tracing"] = {
            "random_sampling": {"value": 100},
            "provider": {
                "name": "opentelemetry",
                "typed_config": {
                    _TYPE: f"{_PREFIX}.config.trace.v3.OpenTelemetryConfig",
                    "service_name": "orders",
                    "http_service": {
                        "http_uri": {
                            "uri": f"http://127.0.0.1:{otlp}/v1/traces",
                            "cluster": "otlp",
                            "timeout": "5s",
                        }
                    },
                },
            },
        }
    filters.append({"name": "router", "typed_config": {_TYPE: f"{_PREFIX}.extensions.filters.http.router.v3.Router"}})
    manager["http_filters"] = filters
    listener = {
        "name": "inbound",
        "address": _address(port),
        "listener_filters": [
            {
                "name": "http_inspector",
                "typed_config": {_TYPE: f"{_PREFIX}.extensions.filters.listener.http_inspector.v3.HttpInspector"},
            }
        ],
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}}, indent=1)


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict[str, Any]:
    protocol: dict[str, Any] = {
        _TYPE: f"{_PREFIX}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
    }
    unlimited = 4_294_967_295
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "typed_extension_protocol_options": {
            f"{_PREFIX.split('/')[1]}.extensions.upstreams.http.v3.HttpProtocolOptions": protocol
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": unlimited,
                    "max_pending_requests": unlimited,
                    "max_requests": unlimited,
                    "max_retries": unlimited,
                }
            ]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }
