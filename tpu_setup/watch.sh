#!/usr/bin/env bash
# Follow a launched run to its end, and bring a preempted slice back until the run is done.
#
#   tpu_setup/watch.sh [--config FILE] [--dry-run] [--yes] [--once] [--restarts N]
#
# Prints a line when something changes: state, workers at work, last step and its loss, number of
# preemptions. A slice that was taken away is deleted, created anew, installed, and given the same
# command again, which goes on from its newest checkpoint; this happens at most N times (20), with
# a wait that doubles while nothing is gained. A command that fails on healthy workers is not
# repeated, and one that launch.sh refuses deletes and creates nothing.
#
#   --once      print one line and end
#   --yes       let it delete and create the slice without asking first
#
# Exit code: that of the command (0 done), 1 given up, 2 misused.

. "$(dirname "$0")/common.sh"

ONCE=no RESTARTS=20
while [ $# -gt 0 ]; do
  case "$1" in
    --once) ONCE=yes ;;
    --restarts) [[ ${2:-} =~ ^[0-9]+$ ]] || misuse "--restarts needs a number" && RESTARTS=$2 && shift ;;
    *) common_option "$@" && shift $((TAKEN - 1)) ;;
  esac
  shift
done
load_config

last_step() { # "step 1200 loss 2.31" from the newest line of metrics.jsonl
  local line
  case "$WORKDIR" in
    gs://*) line=$(run gcloud storage cat "$WORKDIR/metrics.jsonl" --project="$PROJECT" 2>/dev/null | tail -n 1) ;;
    *) line=$(on_workers 0 "tail -n 1 biofm_jax/$(quote "${WORKDIR:-runs/$NAME}")/metrics.jsonl" 2>/dev/null) ;;
  esac || true
  if [ "$DRY_RUN" = yes ]; then printf '%s\n' "$line" && return; fi
  sed -n 's/.*"step": *\([0-9]*\).*/step \1/p' <<<"$line" | tr '\n' ' '
  sed -n 's/.*"loss": *\([-0-9.eE+]*\).*/loss \1/p' <<<"$line"
}

lost=0 failures=0 waiting=0 before=''
tell() { # print what changed
  local step line
  step=$(last_step)
  line="$STATE, $RUNNING of $WORKERS workers at work, ${step:-no step}, lost $lost times"
  if [ "$line" != "$before" ]; then printf '%s  %s\n' "$(date +%H:%M:%S)" "$line"; fi
  before=$line
}

back_off() { # wait: longer each time, never more than 32 looks
  failures=$((failures + 1))
  [ "$failures" -lt 10 ] || fail "ten failures in a row; the last state of $NAME is $STATE"
  sleep $((POLL * (1 << (failures < 5 ? failures : 5))))
}

step_script() { "$HERE/$1" --config "$CONFIG" "${@:2}"; }

launch_again() { # OPTION: launch the recorded command; a refusal is final, it would only recur
  local word code=0 command=()
  while IFS= read -r -d '' word; do command+=("$word"); done <"$RECORD/command"
  step_script launch.sh "$1" -- "${command[@]}" >"$SCRATCH/launch" 2>&1 || code=$?
  if [ "$1" != --dry-run ] || [ "$code" != 0 ]; then cat "$SCRATCH/launch" >&2; fi
  [ "$code" != 2 ] ||
    misuse "launch.sh refuses the command in $RECORD/command; its reason stands above. Correct" \
      "$CONFIG, or launch the command anew, and start watch.sh again"
  return "$code"
}

bring_back() { # delete what is left, create, install, launch the recorded command
  launch_again --dry-run || return
  lost=$((lost + 1))
  [ "$lost" -le "$RESTARTS" ] || fail "$NAME was lost $lost times; given up"
  say "$NAME is $STATE: loss $lost of at most $RESTARTS; bringing it back"
  case "$STATE" in GONE) step_script delete.sh --yes || return ;; esac
  case "$STATE" in GONE | ABSENT) step_script create.sh --yes || return ;; esac
  step_script install.sh && launch_again --detach
}

RUNNING=0 FINISHED=0 WORKERS=0
if [ "$DRY_RUN" = yes ]; then
  find_slice && read_statuses && last_step
  say "after a preemption: delete.sh, create.sh, install.sh and launch.sh with the same command"
  end_dry_run
elif [ "$ONCE" = no ]; then
  [ -f "$RECORD/command" ] || misuse "nothing was launched on $NAME from this folder; launch.sh does"
  typed "When $NAME is preempted it will be deleted and created anew, at most $RESTARTS times."
fi

while true; do
  find_slice
  RUNNING=0 FINISHED=0
  if [ "$STATE" = READY ]; then count_workers && read_statuses; fi
  tell
  if [ "$ONCE" = yes ]; then exit 0; fi

  if [ "$STATE" = GONE ] || [ "$STATE" = ABSENT ]; then
    bring_back || back_off
  elif [ "$STATE" != READY ]; then
    [ "$STATE" = WAITING ] || back_off
  elif [ "$RUNNING" -gt 0 ]; then
    failures=0 waiting=$((FINISHED > 0 ? waiting + 1 : 0))
    # A worker that ended ends the others; those that still wait for it are told to.
    if [ "$waiting" -gt 10 ]; then worker stop "$NAME" >/dev/null; fi
  elif [ "$FINISHED" = "$WORKERS" ] && [ "$WORST" != 255 ]; then
    if [ "$WORST" = 0 ]; then say "done" && exit 0; fi
    sleep "$POLL" && find_slice # workers fail before their slice is said to be gone
    if [ "$STATE" = READY ]; then
      say "the command failed with exit code $WORST; launch.sh shows why, the log is on the workers"
      exit "$WORST"
    fi
  else # vanished workers, or new ones without the command
    back_off && find_slice
    [ "$STATE" != READY ] || bring_back || true
  fi
  sleep "$POLL"
done
