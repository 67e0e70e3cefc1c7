#!/usr/bin/env bash
# Copy the run's folder to this machine: metrics, curve, checkpoints.
#
#   tpu_setup/fetch.sh [--config FILE] [--dry-run] [--no-checkpoints] [FOLDER]
#
# FOLDER is runs/NAME when it is not given. From a bucket only what is new is copied, and the slice
# need not exist any more. `biofm evaluate FOLDER` reads a pod's checkpoint on a laptop.
#
# Exit code: 0 copied, 1 not, 2 misused.

. "$(dirname "$0")/common.sh"

CHECKPOINTS=yes FOLDER=''
while [ $# -gt 0 ]; do
  case "$1" in
    --no-checkpoints) CHECKPOINTS=no ;;
    -*) common_option "$@" && shift $((TAKEN - 1)) ;;
    *) [ -z "$FOLDER" ] || misuse "one folder: '$FOLDER' or '$1'?" && FOLDER=$1 ;;
  esac
  shift
done
load_config
FOLDER=${FOLDER:-runs/$NAME}

run mkdir -p "$FOLDER"
case "$WORKDIR" in
  gs://*)
    without=()
    if [ "$CHECKPOINTS" = no ]; then without=(--exclude='^checkpoints/.*'); fi
    run gcloud storage rsync "$WORKDIR" "$FOLDER" --recursive --project="$PROJECT" \
      ${without[@]+"${without[@]}"}
    ;;
  *)
    need_ready
    [ "$CHECKPOINTS" = yes ] || misuse "--no-checkpoints needs a WORKDIR in a bucket"
    # Into a folder that exists, scp would put the run's folder instead of what is in it.
    part=$FOLDER/.fetched
    run rm -rf "$part"
    tpus tpu-vm scp --recurse "$(node 0):biofm_jax/${WORKDIR:-runs/$NAME}" "$part" --worker=0
    run cp -R "$part/." "$FOLDER"
    run rm -rf "$part"
    ;;
esac
told "copied to $FOLDER"
