from pathlib import Path

from sp_proxy.dev.environment import BUNDLES, Trust, own_bundles, proxied, replaced_proxies, trusting, trusting_node

TRUST = Trust(Path("/run/a.pem"), Path("/run/b.pem"), Path("/run/k.pem"), Path("/run/t.p12"))
PROXY = ("127.0.0.1", 8888)


def test_proxies_in_both_cases_and_nothing_excepted():
    made = proxied({"NO_PROXY": "localhost", "no_proxy": "x", "PATH": "/bin"}, PROXY, TRUST, Path("/run/node.cjs"))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        assert made[name] == "http://127.0.0.1:8888"
    assert made["NO_PROXY"] == made["no_proxy"] == ""
    assert made["NODE_USE_ENV_PROXY"] == "1"
    assert made["PATH"] == "/bin"


def test_every_bundle_is_ours():
    made = trusting({"SSL_CERT_FILE": "/mine.pem"}, TRUST)
    assert {made[name] for name in BUNDLES} == {"/run/b.pem"}
    assert made["NODE_EXTRA_CA_CERTS"] == "/run/a.pem"
    assert "HTTP_PROXY" not in made


def test_options_of_java_and_node_are_added_to_the_users_own():
    environ = {"JAVA_TOOL_OPTIONS": "-Xmx1g", "NODE_OPTIONS": "--inspect"}
    made = proxied(environ, PROXY, TRUST, Path("/run/node.cjs"))
    assert made["NODE_OPTIONS"] == "--inspect --require /run/node.cjs"
    java = made["JAVA_TOOL_OPTIONS"].split()
    assert java[0] == "-Xmx1g"
    assert {
        "-Dhttp.proxyHost=127.0.0.1",
        "-Dhttps.proxyPort=8888",
        "-Dhttp.nonProxyHosts=",
        "-Djavax.net.ssl.trustStore=/run/t.p12",
    } < set(java)


def test_a_path_with_a_space_is_quoted_for_node():
    made = proxied({}, PROXY, TRUST, Path("/a b/node.cjs"))
    assert made["NODE_OPTIONS"] == '--require "/a b/node.cjs"'


def test_what_the_user_had():
    environ = {
        "https_proxy": "http://corporate:3128",
        "NO_PROXY": "",
        "SSL_CERT_FILE": "/c.pem",
        "CURL_CA_BUNDLE": "/c.pem",
    }
    assert replaced_proxies(environ) == ["https_proxy"]
    assert own_bundles({**environ, "NODE_EXTRA_CA_CERTS": "/n.pem"}) == [Path("/c.pem"), Path("/n.pem")]


def test_node_keeps_the_authorities_that_the_user_named():
    assert trusting({"NODE_EXTRA_CA_CERTS": "/mine.pem"}, TRUST)["NODE_EXTRA_CA_CERTS"] == "/run/b.pem"
    assert trusting_node({"NODE_EXTRA_CA_CERTS": "/mine.pem"}, TRUST)["NODE_EXTRA_CA_CERTS"] == "/mine.pem"
    assert trusting_node({"PATH": "/bin"}, TRUST) == {"PATH": "/bin", "NODE_EXTRA_CA_CERTS": "/run/a.pem"}
