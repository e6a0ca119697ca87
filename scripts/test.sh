#!/usr/bin/env bash
# The tests of a marker expression: scripts/test.sh "not long and not gpu" [arguments of pytest]
#
# Unit, contract and replay tests, and commands from end to end, share nothing and run two at a time. What starts robots and
# browsers comes after, one at a time: their clocks are real. With a path among the arguments, just that, one at a time.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
py=.venv/bin/python
marks=$1
shift
for argument in "$@"; do
  [ -e "${argument%%::*}" ] && exec "$py" -m pytest -m "$marks" "$@"
done
"$py" -m pytest -m "$marks" -n 2 --dist loadfile --ignore tests/e2e/test_dashboard.py tests/unit tests/contract tests/replay \
  tests/e2e "$@"
first=$?
"$py" -m pytest -m "$marks" tests/ros tests/e2e/test_dashboard.py "$@"
second=$?
# 5: none of these was chosen, which is no failure when the others were.
[ "$first" = 5 ] && exit "$second"
[ "$first" = 0 ] && [ "$second" = 5 ] && exit 0
[ "$first" = 0 ] && exit "$second"
exit "$first"
