"""The store on ClickHouse: a server, or a cluster with several stateless backends."""
