#!/usr/bin/env bash
# Start one command on all workers, show their output, and end with the worst worker's exit code.
#
#   tpu_setup/launch.sh [--config FILE] [--dry-run] [--detach] -- COMMAND...
#   tpu_setup/launch.sh [--config FILE] --stop
#
#   tpu_setup/launch.sh -- biofm train experiments/computational_biology/esm2_masked.py:650M \
#       --data.path gs://my-bucket/data/proteins --mesh.fsdp 16 --loop.batch_size 1024
#
# `biofm train` gets --distributed True, so that JAX finds the other workers by itself, and the
# --workdir of tpu.conf. The command runs in the checkout, apart from this connection: close the
# laptop and it goes on; watch.sh follows it. Output is kept under runs/tpu/NAME/logs, a file for
# each worker. A gs:// argument is read where install.sh mounted the bucket.
#
#   --detach   return as soon as it runs
#   --stop     SIGTERM to the command on all workers: it saves and ends
#
# Exit code: that of the command, the worst of all workers (255: a worker was lost), 2 misused.

. "$(dirname "$0")/common.sh"

DETACH=no STOP=no
while [ $# -gt 0 ]; do
  case "$1" in
    --detach) DETACH=yes ;;
    --stop) STOP=yes ;;
    --) shift && break ;;
    *) common_option "$@" && shift $((TAKEN - 1)) ;;
  esac
  shift
done
load_config
[ "$STOP" = yes ] || [ $# -gt 0 ] || misuse "no command: launch.sh -- biofm train EXPERIMENT.py ..."
need_ready
if [ "$STOP" = yes ]; then worker stop "$NAME" && exit 0; fi
count_workers
given=("$@") # watch.sh gives these words again after a preemption

if [ "$1" = biofm ] && [ "${2:-}" = train ]; then
  case " $(quote "$@") " in
    *' --workdir'*) misuse "the workdir stands in $CONFIG (WORKDIR), where watch.sh and fetch.sh look" ;;
  esac
  case "$WORKDIR" in
    gs://*) ;;
    *) [ "$WORKERS" = 1 ] || misuse "$WORKERS workers write one checkpoint: WORKDIR must be gs://..." ;;
  esac
  set -- "$@" --distributed True --workdir "${WORKDIR:-runs/$NAME}"
fi

started=$(worker start "$NAME" "$@") || say "a worker refused; its reason stands above"
if [ "$DRY_RUN" = yes ]; then
  printf '%s\n' "$started" && worker follow "$NAME" && worker status "$NAME" && end_dry_run
fi
if [ "$(grep -c '^biofm-started' <<<"$started")" != "$WORKERS" ]; then
  say "started on some of the $WORKERS workers only:"
  fail "$(grep '^biofm-started' <<<"$started" || echo none). launch.sh --stop ends those"
fi
mkdir -p "$RECORD/logs"
printf '%s\0' "${given[@]}" >"$RECORD/command.part" && mv "$RECORD/command.part" "$RECORD/command"
say "$NAME runs on $WORKERS workers in $ZONE"
[ "$DETACH" = no ] || exit 0

# The connection may break; the run does not, so its end is read from the workers.
worker follow "$NAME" 2>"$SCRATCH/ssh" | tee "$SCRATCH/all.log" || say "connection lost; waiting"
missed=0
while read_statuses && [ "$FINISHED" != "$WORKERS" ]; do
  if [ "$RUNNING" -gt 0 ]; then missed=0; else missed=$((missed + 1)); fi
  [ "$missed" -lt 10 ] || break
  sleep "$POLL"
done
awk -v folder="$RECORD/logs" 'match($0, /^\[[-A-Za-z0-9._]+\] /) {
  file = folder "/" substr($0, 2, RLENGTH - 3) ".log"
  print substr($0, RLENGTH + 1) > file
}' "$SCRATCH/all.log"

cut -d' ' -f2- "$SCRATCH/status" | sort >&2
if [ "$FINISHED" != "$WORKERS" ]; then
  WORST=255
  say "$FINISHED of $WORKERS workers told how it ended; watch.sh goes on looking"
fi
say "logs in $RECORD/logs; the worst exit code is $WORST"
exit "$WORST"
