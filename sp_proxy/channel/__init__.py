"""From a worker to the exporter: length-prefixed msgpack frames over a Unix socket."""
