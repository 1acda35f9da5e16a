#!/bin/sh
# The lab of this folder, through Docker Compose.
set -eu
usage() {
    cat >&2 <<'TEXT'
./lab up                      start the lab, and wait until every mobile node has settled on its first network
./lab move NODE NETWORK       leave one network, join another; the events of the move, a JSON object a line
./lab state NODE SERVICE      what a service reports: home-agent, foreign-agent, mobile-node, roam
./lab exec NODE COMMAND...    a command in a node
./lab down                    remove the lab
COMPOSE is the command of Docker Compose; by default `docker compose`, else docker-compose.
TEXT
    exit 2
}
cd "$(dirname "$(readlink -f "$0")")"
if [ -z "${COMPOSE:-}" ]; then
    if docker compose version >/dev/null 2>&1; then COMPOSE='docker compose'; else COMPOSE=docker-compose; fi
fi
compose() { $COMPOSE "$@"; } # words of COMPOSE are split

# Ask a service of a node; print its answers until one has the event $4, or the first where that is empty.
ask() {
    compose exec -T "$1" python3 -c '
import socket, sys
service, request, until = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as control:
    control.settimeout(90)
    control.connect(f"/run/testbed/{service}.sock")
    control.sendall(request.encode() + b"\n")
    for line in control.makefile():
        print(line, end="", flush=True)
        if "\"ok\": false" in line or "\"ok\":false" in line:
            sys.exit(1)
        if not until or f"\"{until}\"" in line:
            sys.exit()
sys.exit(1)
' "$2" "$3" "$4"
}

case ${1:-} in
up)
    compose up -d
    for node in $(grep -l ' -$' nodes/*/etc/testbed/links | cut -d/ -f2); do
        printf 'waiting for %s\n' "$node" >&2
        for _ in $(seq 150); do
            reply=$(ask "$node" roam '{"op":"state"}' '' 2>/dev/null) || reply=''
            case $reply in *'"moving": false'*) break ;; esac
            sleep 0.2
        done
        case $reply in *'"state": "unregistered"'*) # it may have been there before what it needs was
            network=${reply#*'"network": "'}
            ask "$node" roam "{\"op\":\"move\",\"network\":\"${network%%'"'*}\"}" settled | tail -n 1 ;;
        *) printf '%s\n' "$reply" ;;
        esac
    done
    ;;
move) [ $# = 3 ] || usage && ask "$2" roam "{\"op\":\"move\",\"network\":\"$3\"}" settled ;;
state) [ $# = 3 ] || usage && ask "$2" "$3" '{"op":"state"}' '' ;;
exec) [ $# -gt 2 ] || usage && shift && compose exec -T "$@" ;;
down) compose down --timeout 1 ;;
*) usage ;;
esac
