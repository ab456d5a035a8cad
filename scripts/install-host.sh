#!/usr/bin/env bash
# Installs the daemon on this host, as root: from this clone into /opt/sp-proxy, with units for systemd. Nothing is
# started. Run again, it brings a newer version, and keeps settings and state. docs/hosts.md goes on from here.
#
#   /opt/sp-proxy/VERSION-DATE     the packages, exactly as locked, and an interpreter where the system has none for all
#   /opt/sp-proxy/bin/sp-proxy     the version in use, also as /usr/local/bin/sp-proxy
#   /etc/sp-proxy/config.yaml      written once, then yours
#   /var/lib/sp-proxy              the user's home: spool, the embedded backend's store
#   /usr/local/lib/systemd/system  sp-proxy.service, sp-proxy-netfilter.service
#
# The running daemon goes on with its own version, whole, until it is restarted.

source "$(dirname "$0")/environment.sh"

home=/opt/sp-proxy
units=/usr/local/lib/systemd/system
[ $# -eq 0 ] || die "$1 is not known: it takes no arguments, and installs for the whole host (docs/hosts.md)"
[ "$(id -u)" -eq 0 ] || die "this installs for the whole host: run it as root (sudo $0)"
command -v systemd-sysusers >/dev/null || die "this host has no systemd (systemd-sysusers)"

uv=$(scripts/find-uv.sh)
python=$(scripts/find-python.sh)
version=$("$python" -I -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
release=$home/$version-$(date -u +%Y%m%d%H%M%S)
mkdir -p "$home/bin"
[ ! -e "$release" ] || die "$release is there already: somebody installs at this moment"
trap 'rm -rf "$release"' EXIT

# The unit sees neither home directories nor this clone; what is not the system's own interpreter is copied.
mkdir "$release"
case $("$python" -I -c 'import sys; print(sys.base_prefix)') in
    /usr | /usr/local | /opt/*) ;;
    *)
        case $python in "$PWD"/.python/*) ;; *) python=$(scripts/copy-python.sh "$python") ;; esac
        cp -R "$(dirname "$(dirname "$python")")" "$release/python"
        python=$release/python/bin/$(basename "$python")
        ;;
esac

adopt_pip_settings
say "installing $version into $release"
export UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
"$uv" venv --quiet --allow-existing --python "$python" "$release"
"$uv" pip sync --quiet --python "$release/bin/python" --require-hashes requirements.lock
"$uv" pip install --quiet --python "$release/bin/python" --no-deps --build-constraints requirements-dev.lock .
rm -f "$release/.lock" # uv's own, which everybody may write
as_nobody "$release/bin/sp-proxy" --version >/dev/null || die "what was installed does not work (see above)"

install -D -m 644 deploy/systemd/sp-proxy.sysusers /usr/local/lib/sysusers.d/sp-proxy.conf
systemd-sysusers /usr/local/lib/sysusers.d/sp-proxy.conf
install -d -m 755 /etc/sp-proxy
install -d -m 750 -o sp-proxy -g sp-proxy /var/lib/sp-proxy
# It may hold secrets, and the daemon reads it again when it changes.
if [ ! -e /etc/sp-proxy/config.yaml ]; then
    install -m 640 -g sp-proxy deploy/systemd/config.yaml /etc/sp-proxy/config.yaml
fi
install -D -m 644 -t "$units" deploy/systemd/sp-proxy.service deploy/systemd/sp-proxy-netfilter.service

previous=$(readlink "$home/bin/sp-proxy" || true)
ln -sfn "$release/bin/sp-proxy" "$home/bin/.new"
mv -T "$home/bin/.new" "$home/bin/sp-proxy"
ln -sfn "$home/bin/sp-proxy" /usr/local/bin/sp-proxy
trap - EXIT
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

# The version before this one stays, as one may want to go back; and the one that runs, which may be an older one still.
running=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' || true)
for old in "$home"/*/; do
    case $old in "$release/" | "$home/bin/") continue ;; esac
    case $previous in "$old"*) continue ;; esac
    case $running in *"$old"*) continue ;; esac
    rm -rf "$old"
done
say "installed sp-proxy $version; settings are in /etc/sp-proxy"
