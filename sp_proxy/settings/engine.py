"""Settings as the plain data that a mitm worker gets, and what a relay worker hands over to it."""

from collections.abc import Mapping

from sp_proxy.inject.config import InjectConfig
from sp_proxy.mitm.config import MitmConfig, TlsConfig
from sp_proxy.settings.checks import embedded_url, inject_url
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.project import admission_config, header_config, policy_config, redaction_config
from sp_proxy.taps.sniff import HandOverRules


def tls_config(settings: SettingsModel) -> TlsConfig:
    """Whose TLS is opened, and with which certificates."""
    tls = settings.tls
    return TlsConfig(
        intercept=tuple(tls.intercept),
        never=tuple(tls.never),
        ca_directory=tls.ca_directory,
        ca_file=tls.ca_file,
        trusted_file=tls.trusted_ca_file,
        remember_rejections=tls.remember_rejections,
    )


def inject_config(settings: SettingsModel) -> InjectConfig:
    """Where stored answers are looked up; empty unless that is enabled."""
    inject = settings.inject
    if not inject.enabled:
        return InjectConfig()
    url = inject_url(settings)
    token = inject.token.get_secret_value()
    if not token and settings.backend.enabled and url.startswith(f"{embedded_url(settings)}/"):
        token = settings.backend.token.get_secret_value()
    return InjectConfig(
        url,
        settings.public_key.get_secret_value(),
        token,
        tuple(inject.hosts),
        inject.timeout,
        inject.max_body,
        redaction_config(settings),
        settings.resource_type,
        settings.upload.ca_file,
    )


def mitm_config(settings: SettingsModel, environ: Mapping[str, str]) -> MitmConfig:
    """The template of what every mitm worker is told: its number and its descriptors are missing."""
    return MitmConfig(
        worker_id=-1,
        channel_fd=-1,
        handover_fd=-1,
        headers=header_config(settings, environ),
        policy=policy_config(settings, environ),
        tls=tls_config(settings),
        flows=settings.data_path == "mitmproxy",
        websocket_messages=settings.websocket.max_messages if settings.websocket.capture == "messages" else -1,
        strict=settings.strict,
        detect_timeout=settings.detect_timeout,
        max_body_size=settings.capture.max_body_size,
        max_head_size=settings.relay.max_head_size,
        grace_period=settings.shutdown.grace_period,
        log_level=settings.log.level,
        log_format=settings.log.format,
        admission=admission_config(settings),
        partial_after=settings.capture.partial_after,
        request_budget=settings.addons.request_budget,
        stuck_after=settings.addons.stuck_after,
        inject=inject_config(settings),
    )


def hand_over_rules(settings: SettingsModel) -> HandOverRules:
    """What a relay worker leaves to the mitm worker."""
    return HandOverRules(
        tls_intercept=tuple(settings.tls.intercept),
        tls_never=tuple(settings.tls.never),
        http=settings.data_path == "mitmproxy" or settings.inject.enabled,
        websocket=settings.websocket.capture == "messages",
        hosts=tuple(host for flow in settings.addons.flows for host in flow.hosts),
    )
