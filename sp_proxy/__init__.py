"""sp_proxy: a transparent traffic-capture proxy.

The rooms, in the order in which the data flows
(``socket → tap → decide → exchange → channel → redact → batch → encode → queue → upload``):

- ``settings``    every setting, unit, default and environment name
- ``taps``        sans-IO protocol watchers
- ``core``        pure policy: what to inject, what to capture, what a span looks like
- ``relay``       the uvloop worker which owns the sockets
- ``channel``     frames from a worker to the exporter
- ``exporter``    trio: intake, batch, encode, queue, upload
- ``supervisor``  the trio parent: listeners, workers, signals, shutdown
- ``admin``       health, readiness, metrics, drain
- ``backend``     the embedded backend: OTLP intake, store, API, page
- ``replay``      captured requests sent again, their answers compared
- ``mock``        captured answers given again
- ``inject``      the look-up of stored answers, as both ends speak it
- ``mcp``         the backend's queries as tools for agents and editors
- ``netfilter``   redirect rules
- ``sidecar``     the daemon's containers in Kubernetes manifests
- ``cli``         one module a subcommand; the only room that prints for people
"""

__version__ = "0.1.0"
