#!/usr/bin/env bash
# Builds the ROS interface packages of ros2_ws/src into the virtual environment, those that are not there yet:
# shelfscan_msgs always, nav2_msgs and tf2_msgs only where the real ones are absent. Skipped when nothing changed.
# Usage: scripts/build_interfaces.sh [VENV]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=$(cd "${1:-$root/.venv}" && pwd)
stamp=$venv/.shelfscan-interfaces
hash=$(cd "$root/ros2_ws" && find src cmake -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null)" = "$hash" ]; then
  echo "interfaces: up to date"
  exit 0
fi
ours=$(cat "$venv/.shelfscan-interfaces-made" 2>/dev/null || true)
packages=shelfscan_msgs
for p in nav2_msgs tf2_msgs; do
  # A package this script made before is made again; a real one is never shadowed.
  if [[ " $ours " == *" $p "* ]] || ! "$venv/bin/python" -c "import $p" 2>/dev/null; then
    packages="$p $packages"
  fi
done
echo "interfaces: building $packages"
work=$venv/.interfaces
mkdir -p "$work"
unset PYTHONPATH LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
export PATH=$venv/bin:$PATH VIRTUAL_ENV=$venv
export AMENT_PREFIX_PATH=$venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH} CMAKE_PREFIX_PATH=$venv${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}
cd "$work"
if ! "$venv/bin/colcon" --log-base "$work/log" build --merge-install --base-paths "$root/ros2_ws/src" --build-base "$work/build" \
  --install-base "$work/install" --packages-select $packages --cmake-args -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PROJECT_INCLUDE="$root/ros2_ws/cmake/wheel_fix.cmake" -DPython3_EXECUTABLE="$venv/bin/python" \
  -DBUILD_TESTING=OFF > "$work/build.log" 2>&1; then
  tail -40 "$work/build.log" >&2
  echo "interfaces: the build failed; the whole log is $work/build.log" >&2
  exit 1
fi
for p in $packages; do
  cmake --install "build/$p" --prefix "$venv" > "$work/install-$p.log"
done
echo "$packages" > "$venv/.shelfscan-interfaces-made"
echo "$hash" > "$stamp"
