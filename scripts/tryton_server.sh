#!/usr/bin/env bash
# A Tryton 8.0 test server on loopback with a store's locations, products and stock, and its end:
#   scripts/tryton_server.sh [--postgresql] DIR PORT STORE
#   scripts/tryton_server.sh --stop DIR
# Everything lies in DIR: its own virtual environment and the database, SQLite's or a PostgreSQL cluster of its own that is
# reached through a socket in DIR and nowhere else. PostgreSQL runs as this user, or as its own user where this one is root,
# which it refuses. DIR/server.pid is the server's process. Prints the address for `shelfscan campaign --address`. The password
# is a test server's: admin-Test-1. Ends with 77 where PostgreSQL is wanted and cannot be had.
set -euo pipefail

find_postgresql() {  # sets $pg, the folder of its programs
  local initdb
  initdb=$(command -v initdb || ls -d /usr/lib/postgresql/*/bin/initdb 2> /dev/null | sort -V | tail -1 || true)
  [ -n "$initdb" ] || { echo "no PostgreSQL here (Debian and Ubuntu: postgresql)" >&2; exit 77; }
  pg=$(dirname "$(readlink -f "$initdb")")
}

as_postgresql() {  # a command as the user that PostgreSQL runs as
  if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

stop() {  # both, if they run; the database last
  if [ -s "$1/server.pid" ]; then
    local pid
    pid=$(cat "$1/server.pid")
    kill "$pid" 2> /dev/null || true
    for _ in $(seq 100); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2> /dev/null || true
    rm -f "$1/server.pid"
  fi
  if [ -s "$1/pg/data/postmaster.pid" ]; then
    find_postgresql
    (cd / && as_postgresql "$pg/pg_ctl" -D "$1/pg/data" -m fast -w stop > /dev/null)
  fi
}

if [ "$1" = --stop ]; then
  stop "$(cd "$2" && pwd)"
  exit 0
fi
postgresql=
[ "$1" != --postgresql ] || { postgresql=1; shift; }
dir=$(mkdir -p "$1" && cd "$1" && pwd)
port=$2
store=$(cd "$3" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
cd "$dir"

if [ -n "$postgresql" ]; then
  find_postgresql
  if [ "$(id -u)" = 0 ]; then
    id postgres > /dev/null 2>&1 || { echo "PostgreSQL does not run as root, and there is no user postgres here" >&2; exit 77; }
    (cd / && as_postgresql test -x "$dir") || { echo "$dir: the user postgres cannot enter it; take a folder that it can" >&2; exit 1; }
  fi
  if [ ! -d pg/data ]; then
    mkdir -p pg
    [ "$(id -u)" != 0 ] || chown postgres pg
    chmod 700 pg  # whoever reaches the socket is trusted
    (cd / && as_postgresql "$pg/initdb" -D "$dir/pg/data" -U tryton -A trust -E UTF8 --locale=C) > pg.log 2>&1
  fi
  trap 'stop "$dir"' EXIT
  (cd / && as_postgresql "$pg/pg_ctl" -D "$dir/pg/data" -l "$dir/pg/server.log" -w \
    -o "-k '$dir/pg' -c listen_addresses=''" start) >> pg.log 2>&1 < /dev/null
  export PGHOST=$dir/pg PGUSER=tryton
fi

extra=${postgresql:+[PostgreSQL]}
if [ ! -e "venv/ready$extra" ]; then
  python3 -m venv venv
  venv/bin/pip install -q "trytond$extra>=8.0,<8.1" 'trytond_stock>=8.0,<8.1' 'proteus>=8.0,<8.1'
  touch "venv/ready$extra"
fi
mkdir -p db
{
  echo "[database]"
  if [ -n "$postgresql" ]; then echo "uri = postgresql://"; else printf 'uri = sqlite://\npath = %s\n' "$dir/db"; fi
  printf '[web]\nlisten = 127.0.0.1:%s\n[session]\ntimeout = 86400\n' "$port"
} > trytond.conf
seeded=db/seeded${postgresql:+-postgresql}
if [ ! -e "$seeded" ]; then
  echo admin-Test-1 > password
  if [ -n "$postgresql" ]; then "$pg/dropdb" --if-exists wms 2>> pg.log && "$pg/createdb" wms; else : > db/wms.sqlite; fi
  TRYTONPASSFILE=$dir/password venv/bin/trytond-admin -c trytond.conf -d wms --all --email admin@example.org -u stock \
    --activate-dependencies > setup.log 2>&1
  venv/bin/python "$here/tryton_seed.py" "$dir/trytond.conf" wms "$store" >> setup.log 2>&1
  touch "$seeded"
fi
setsid venv/bin/trytond -c trytond.conf -d wms > server.log 2>&1 < /dev/null &
echo $! > server.pid
for _ in $(seq 150); do
  curl -sf -o /dev/null -H 'Content-Type: application/json' -d '{"id":0,"method":"common.server.version","params":[]}' \
    "http://127.0.0.1:$port/rpc/" && break
  sleep 0.2
done
trap - EXIT
echo "http://admin:admin-Test-1@127.0.0.1:$port/wms"
