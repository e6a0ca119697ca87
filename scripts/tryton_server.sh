#!/usr/bin/env bash
# A Tryton 8.0 test server on loopback with a store's locations, products and stock:
#   scripts/tryton_server.sh DIR PORT STORE
# Everything lies in DIR (its own virtual environment and an SQLite database); DIR/server.pid is the server's process.
# Prints the address for `shelfscan campaign --address`. The password is a test server's: admin-Test-1.
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd)
port=$2
store=$(cd "$3" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
cd "$dir"
if [ ! -x venv/bin/trytond ]; then
  python3 -m venv venv
  venv/bin/pip install -q 'trytond>=8.0,<8.1' 'trytond_stock>=8.0,<8.1' 'proteus>=8.0,<8.1'
fi
mkdir -p db
cat > trytond.conf << CONF
[database]
uri = sqlite://
path = $dir/db
[web]
listen = 127.0.0.1:$port
[session]
timeout = 86400
CONF
if [ ! -s db/wms.sqlite ]; then
  echo admin-Test-1 > password
  touch db/wms.sqlite
  TRYTONPASSFILE=$dir/password venv/bin/trytond-admin -c trytond.conf -d wms --all --email admin@example.org -u stock \
    --activate-dependencies > setup.log 2>&1
  venv/bin/python "$here/tryton_seed.py" "$dir/trytond.conf" wms "$store" >> setup.log 2>&1
fi
setsid venv/bin/trytond -c trytond.conf -d wms > server.log 2>&1 < /dev/null &
echo $! > server.pid
for _ in $(seq 150); do
  curl -sf -o /dev/null -H 'Content-Type: application/json' -d '{"id":0,"method":"common.server.version","params":[]}' \
    "http://127.0.0.1:$port/rpc/" && break
  sleep 0.2
done
echo "http://admin:admin-Test-1@127.0.0.1:$port/wms"
