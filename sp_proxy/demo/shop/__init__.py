"""The shop: three services and their customers, on the standard library alone, as unaware of sp_proxy as any other."""
