"""The sidecar in Kubernetes: its containers as plain data, and how they come into other people's manifests."""
