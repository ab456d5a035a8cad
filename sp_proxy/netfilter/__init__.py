"""Redirect rules of the kernel: settings → rules (pure) → nftables or iptables; apply, verify, remove.

``rules`` has the values, ``standalone`` makes them from the settings, ``nft`` and ``iptables`` write them and read them
back as text, ``plan`` orders the commands, ``system`` runs them, ``install`` and ``verify`` put it together.
"""
