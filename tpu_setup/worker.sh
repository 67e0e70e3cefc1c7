#!/usr/bin/env bash
# Runs on each worker: holds one command, apart from the connection that started it.
#
#   worker.sh start NAME COMMAND...   start it in the background
#   worker.sh follow NAME             show its output until it ends
#   worker.sh status NAME             running, exit CODE or none
#   worker.sh stop NAME               SIGTERM, so that it saves; SIGKILL after two minutes
#   worker.sh versions                one line that is equal on all workers
#
# An argument gs://BUCKET/PATH becomes /gcs/BUCKET/PATH, where install.sh mounts the bucket.

set -euo pipefail

verb=${1:?start, follow, status, stop or versions} name=${2:-}
shift $(($# < 2 ? $# : 2))
home=${BIOFM_HOME:-$HOME}
self=$(cd "$(dirname "$0")" && pwd)/worker.sh
host=${BIOFM_HOST:-$(hostname)}
run=$home/biofm_runs/$name # log, pid and exit code
mount=${BIOFM_GCS_ROOT:-/gcs}

alive() { # by its command line, since a number may be another process's by now
  [ -f "$run/pid" ] && [ ! -f "$run/exit" ] &&
    tr '\0' ' ' <"/proc/$(cat "$run/pid")/cmdline" 2>/dev/null | grep -qF " hold $name "
}

local_path() { # WORD: with gs:// as the place where the bucket is mounted
  local before=${1%%gs://*} path=${1#*gs://}
  case "$1" in
    gs://* | --*=gs://*) ;;
    *) printf '%s' "$1" && return ;;
  esac
  [ -d "$mount/${path%%/*}" ] || {
    echo "gs://${path%%/*} is not mounted on $host: put it into WORKDIR and run install.sh" >&2
    return 1
  }
  printf '%s' "$before$mount/$path"
}

case "$verb" in
  start)
    if alive; then
      echo "$host already runs $name: launch.sh --stop ends it, watch.sh shows it" >&2
      exit 1
    fi
    words=()
    for word; do
      # The dot keeps newlines at the end, which $(...) drops.
      word=$(local_path "$word" && echo .)
      words+=("${word%.}")
    done
    mkdir -p "$run"
    if [ -f "$run/log" ]; then mv -f "$run/log" "$run/log.before"; fi
    rm -f "$run/exit"
    cd "$home/biofm_jax"
    PATH=$home/biofm_venv/bin:$PATH setsid bash "$self" hold "$name" "${words[@]}" \
      >"$run/log" 2>&1 </dev/null &
    echo $! >"$run/pid"
    # Until it has its own command line, by which `alive` knows it.
    until alive || [ -f "$run/exit" ] || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
    echo "biofm-started $host"
    ;;
  hold)
    trap : TERM # the command gets it too; stay to write down how it ended
    code=0
    "$@" || code=$?
    echo "$code" >"$run/exit.part" && mv "$run/exit.part" "$run/exit"
    ;;
  follow)
    [ -f "$run/log" ] || exit 0
    tail -n +1 -f -s 0.2 --pid="$(cat "$run/pid")" "$run/log" | sed -u "s/^/[$host] /"
    ;;
  status)
    if alive; then
      state=running
    elif [ -f "$run/exit" ]; then
      state="exit $(cat "$run/exit")"
    elif [ -f "$run/pid" ]; then
      state="exit 255" # it vanished: a reboot or SIGKILL
    else
      state=none
    fi
    echo "biofm-status $host $state"
    ;;
  stop)
    if alive; then
      group=$(cat "$run/pid")
      kill -TERM -- "-$group"
      tries=0
      while alive && [ "$tries" -lt 1200 ]; do
        sleep 0.1
        tries=$((tries + 1))
      done
      if alive; then kill -KILL -- "-$group"; fi
    fi
    echo "biofm-stopped $host"
    ;;
  versions)
    cd "$home/biofm_jax"
    echo "biofm-versions $(git rev-parse HEAD) $("$home/biofm_venv/bin/python" -c '
import hashlib, importlib.metadata as m, sys
found = {d.name: d.version for d in m.distributions()}
names = "\n".join(sorted(f"{n}=={v}" for n, v in found.items()))
print("python", sys.version.split()[0], "jax", found["jax"], "libtpu", found.get("libtpu"),
      "packages", hashlib.sha256(names.encode()).hexdigest()[:12])')"
    ;;
  *) echo "worker.sh: unknown verb $verb" >&2 && exit 2 ;;
esac
