"""Redirect rules of the kernel: settings → rules (pure) → nftables or iptables; apply, verify, remove.

``rules`` has the values, ``standalone`` and ``istio`` make them from the settings with the parts in ``policy``, ``nft`` and
``iptables`` write them and read them back as text, ``others`` finds the rules of Istio, ``plan`` orders the commands,
``system`` runs them, ``probes``, ``pulse`` and ``verdict`` serve ``verify``, and ``install`` puts it together.
"""
