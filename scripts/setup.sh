#!/usr/bin/env bash
# Sets this checkout up, for `make demo` and `make test`: system packages (only those missing, through apt, said before
# they are installed), a virtual environment in .venv with the tested versions of everything, ROS 2, the interface
# packages, and the command .venv/bin/shelfscan. Run again it does only what has changed, which is usually nothing.
# Usage: scripts/setup.sh [--browser]     --browser: also Chromium, for the dashboard's test
#   PYTHON=/path/to/python3   the interpreter to use (3.10 or newer)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
venv=$root/.venv
browser=no
for arg in "$@"; do
  case $arg in
    --browser) browser=yes ;;
    *) echo "setup: unknown option '$arg'; see the head of $0" >&2; exit 2 ;;
  esac
done
say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" > /dev/null 2>&1; }
# The standard input is never read: a set-up that waits for an answer hangs in scripts.
exec < /dev/null

# --- system packages --------------------------------------------------------------------------------------------------
libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true)
has_library() { case $libraries in *"$1"*) return 0 ;; *) return 1 ;; esac; }

system_packages() {  # prints the Debian packages that are missing
  has "${PYTHON:-python3}" || echo python3 python3-venv python3-dev
  if has "${PYTHON:-python3}"; then
    "${PYTHON:-python3}" -c 'import ensurepip, venv' 2> /dev/null || echo python3-venv
    # Python.h: the messages' Python bindings are C.
    "${PYTHON:-python3}" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
      || echo python3-dev
  fi
  has g++ || echo g++
  has make || echo make
  has cmake || echo cmake
  # Mesa renders the simulator's cameras, on the processor where there is no graphics card.
  has_library libEGL.so.1 || echo libegl1
  has_library libGL.so.1 || echo libgl1
  has_library libOpenGL.so.0 || echo libopengl0
  compgen -G '/usr/lib/*/dri/*_dri.so' > /dev/null || compgen -G '/usr/lib64/dri/*_dri.so' > /dev/null || echo libgl1-mesa-dri
}

apt_install() {
  local sudo=""
  if [ "$(id -u)" != 0 ]; then
    has sudo && sudo -n true 2> /dev/null && sudo=sudo
    [ -n "$sudo" ] || { say "these system packages are missing and this user may not install them: $*"; return 1; }
  fi
  has apt-get || { say "these system packages are missing and there is no apt-get here: $*"; return 1; }
  say "installing system packages with apt-get${sudo:+ (sudo)}: $*"
  local log
  log=$(mktemp)
  if ! { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq update \
    && $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@"; } > "$log" 2>&1; then
    tail -20 "$log" >&2
    rm -f "$log"
    say "apt-get failed, see above"
    return 1
  fi
  rm -f "$log"
}

missing=$(system_packages | tr '\n' ' ')
# shellcheck disable=SC2086 # a list of names
[ -z "$missing" ] || apt_install $missing || exit 1
if [ "$browser" = yes ] && ! { has chromium && has chromedriver; }; then
  apt_install chromium chromium-driver || say "going on without a browser: the dashboard's browser test will be skipped"
fi
# Only where tests are all that a machine is for: the package starts a server that lets people in.
if [ "$browser" = yes ] && [ "${CI:-}" = true ] && ! [ -x /usr/sbin/sshd ]; then
  apt_install openssh-server || say "going on without sshd: the tests of SFTP will be skipped"
fi

# --- Python and ROS: which ----------------------------------------------------------------------------------------------
python=$(command -v "${PYTHON:-python3}") || die "no ${PYTHON:-python3} here"
version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
  || die "$python is Python $version; 3.10 or newer is needed (name one with PYTHON=/path/to/python3)"
# A distribution's ROS that is sourced in this shell is used; elsewhere ROS 2 comes as wheels, into .venv.
ros=wheels
if [ -z "${_ROS_WHEELS_BOOTSTRAP_COMPLETE:-}" ] && (cd / && "$python" -c 'import rclpy') 2> /dev/null; then ros=distribution; fi
# A ROS that is sourced but of no use to this Python must not leak into the environment made here.
[ "$ros" = distribution ] || unset PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH

# --- up to date? --------------------------------------------------------------------------------------------------------
identity="$root $version $ros"
stamp="$identity $(cat scripts/setup.sh setup.cfg setup.py pyproject.toml constraints.txt requirements-ros.txt requirements-faces.txt | sha256sum)"
interfaces() {
  if [ "$ros" = wheels ]; then
    scripts/build_interfaces.sh "$venv" >&2
  elif ! (cd / && "$venv/bin/python" -c 'import shelfscan_msgs') 2> /dev/null; then
    say "building the interface packages with colcon, beside ROS ${ROS_DISTRO:-}"
    (cd ros2_ws && "$python" -m colcon build --base-paths src --packages-up-to shelfscan_msgs) >&2
    die "now run '. ros2_ws/install/setup.sh' in this shell, then the same command again"
  fi
}
if [ "$(cat "$venv/.shelfscan-setup" 2> /dev/null)" = "$stamp" ] && [ -x "$venv/bin/shelfscan" ] && [ -x "$venv/bin/python" ]; then
  interfaces
  exit 0
fi

# --- virtual environment ------------------------------------------------------------------------------------------------
began=$SECONDS
rm -f "$venv/.shelfscan-setup"
if [ -e "$venv" ] && { [ "$(cat "$venv/.shelfscan-identity" 2> /dev/null || echo "$identity")" != "$identity" ] \
  || ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; }; then
  say "the .venv here is unfinished, or of another Python, ROS or place: making it anew"
  rm -rf "$venv"
fi
if [ ! -e "$venv" ]; then
  say "Python $version, ROS 2 from $ros: making .venv"
  options=()
  [ "$ros" = wheels ] || options=(--system-site-packages)  # the distribution's ROS needs its own Python packages
  "$python" -m venv "${options[@]}" "$venv"
fi
echo "$identity" > "$venv/.shelfscan-identity"

log=$venv/setup-pip.log
: > "$log"
progress() {  # keeps the log, shows every twentieth step
  local line n=0
  while IFS= read -r line; do
    echo "$line" >> "$log"
    case $line in
      Collecting* | Requirement\ already*) n=$((n + 1)); [ $((n % 20)) != 0 ] || say "  $n packages looked up" ;;
      Installing\ collected*) say "  installing" ;;
    esac
  done
}
pip_install() {
  # Not compiled here: Python compiles what is really imported, when it is; the rest is most of it.
  "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-compile --progress-bar off \
    -c constraints.txt "$@" 2>&1 | progress
}
pip_failed() {
  tail -25 "$log" >&2
  die "pip failed, see above; the whole log is $log. Run the same command again to go on."
}
building=
if [ "$ros" = wheels ]; then
  say "installing ROS 2 and the tools that build its interfaces"
  pip_install -r requirements-ros.txt numpy || pip_failed
  # One core compiles the interfaces while the other gets the rest.
  interfaces & building=$!
fi
say "installing shelfscan and what it needs (about 0.4 GB)"
pip_install -e ".[sim,openvino,tags,eval,web,dev]" || { [ -z "$building" ] || wait "$building" || true; pip_failed; }
# Weights alone: what the package's code needs (TensorFlow) is not wanted, so pip must not follow it.
pip_install --no-deps -r requirements-faces.txt || say "going on without BlazeFace: people are found by depth and the own network"
if [ -n "$building" ]; then
  wait "$building" || die "the interface packages could not be built, see above"
else
  interfaces
fi
[ -x "$venv/bin/shelfscan" ] || die "pip left no $venv/bin/shelfscan; see $log"
echo "$stamp" > "$venv/.shelfscan-setup"
say "done in $((SECONDS - began)) s; the command line is .venv/bin/shelfscan"
