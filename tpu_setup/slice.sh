# Sourced by common.sh: where the slice is, how it is, and its workers.
# shellcheck shell=bash disable=SC2034,SC2153 # shared with common.sh and the scripts

look() { # NOUN NAME FORMAT FLAG...: a field of a slice, ABSENT, or UNKNOWN when nobody can tell
  local noun=$1 name=$2 format=$3
  shift 3
  if tpus "$noun" describe "$name" --format="$format" "$@" 2>"$SCRATCH/look"; then
    return
  elif grep -qi 'not_found\|not found' "$SCRATCH/look"; then
    echo ABSENT
  else
    cat "$SCRATCH/look" >&2 && echo UNKNOWN
  fi
}

node() { # NUMBER: the name of a slice's TPU VM
  if [ "$SLICES" = 1 ]; then printf '%s' "$NAME"; else printf '%s-%s' "$NAME" "$1"; fi
}

state_here() { # the state in ZONE: ABSENT WAITING READY GONE UNKNOWN
  local seen number=0
  if [ "$QUEUED" = yes ]; then
    seen=$(look queued-resources "$NAME" 'value(state.state)')
    case "$seen" in
      ACTIVE) ;;
      FAILED | SUSPENDING | SUSPENDED | DELETING) echo GONE && return ;;
      ABSENT | UNKNOWN) echo "$seen" && return ;;
      *) echo WAITING && return ;;
    esac
  fi
  while [ "$number" -lt "$SLICES" ]; do # one lost slice ends the run on all of them
    seen=$(look tpu-vm "$(node "$number")" 'value(state)')
    case "$seen" in
      READY) ;;
      PREEMPTED | TERMINATED | STOPPING | STOPPED | DELETING | HID*) echo GONE && return ;;
      ABSENT) if [ "$QUEUED" = yes ]; then echo GONE; else echo ABSENT; fi && return ;;
      UNKNOWN) echo UNKNOWN && return ;;
      *) echo WAITING && return ;;
    esac
    number=$((number + 1))
  done
  echo READY
}

find_slice() { # sets STATE, and ZONE to where it is
  local zone best=ABSENT
  ZONE=${ZONES%% *} STATE=READY
  if [ "$DRY_RUN" = yes ]; then
    if [ "$QUEUED" = yes ]; then tpus queued-resources describe "$NAME" --format='value(state.state)'; fi
    tpus tpu-vm describe "$(node 0)" --format='value(state)'
    return
  fi
  for zone in $ZONES; do
    ZONE=$zone STATE=$(ZONE=$zone state_here)
    case "$STATE" in
      ABSENT) ;;
      UNKNOWN) best=UNKNOWN ;;
      *) return ;;
    esac
  done
  STATE=$best
}

need_ready() {
  find_slice
  [ "$STATE" = READY ] || fail "$NAME is $STATE in $ZONES; create.sh makes it, watch.sh waits for it"
}

count_workers() { # sets WORKERS
  local list
  WORKERS=1
  if [ "$DRY_RUN" = yes ]; then return; fi
  list=$(look tpu-vm "$(node 0)" 'value(networkEndpoints.ipAddress)' --flatten='networkEndpoints[]')
  WORKERS=$(($(printf '%s\n' "$list" | grep -c .) * SLICES))
}

on_workers() { # all|0 COMMAND: run a line of shell there; what it prints comes to stdout
  if [ "$SLICES" = 1 ]; then
    tpus tpu-vm ssh "$NAME" --worker="$1" --command="$2" </dev/null
  else
    tpus queued-resources ssh "$NAME" --node="$1" --worker="$1" --command="$2" </dev/null
  fi
}

to_workers() { # FILE...: copy files to the home of every worker
  if [ "$SLICES" = 1 ]; then
    tpus tpu-vm scp "$@" "$NAME:" --worker=all
  else
    tpus queued-resources scp "$@" "$NAME:" --node=all --worker=all
  fi
}

worker() { # VERB WORD...: worker.sh on every worker
  on_workers all "bash biofm_jax/tpu_setup/worker.sh $(quote "$@")"
}

read_statuses() { # sets RUNNING, FINISHED, IDLE (how many workers) and WORST, the worst exit code
  local line code
  RUNNING=0 FINISHED=0 IDLE=0 WORST=0
  if [ "$DRY_RUN" = yes ]; then worker status "$NAME" && return; fi
  worker status "$NAME" >"$SCRATCH/status" 2>"$SCRATCH/ssh" || true # told by the lines themselves
  while read -r line; do
    case "$line" in
      biofm-status*' running') RUNNING=$((RUNNING + 1)) ;;
      biofm-status*' none') IDLE=$((IDLE + 1)) ;;
      biofm-status*' exit '*)
        FINISHED=$((FINISHED + 1)) code=${line##* }
        if [ "$code" -gt "$WORST" ]; then WORST=$code; fi
        ;;
    esac
  done <"$SCRATCH/status"
}
