#!/usr/bin/env bash
# Delete the slice of tpu.conf, so that it costs nothing more. The bucket is never touched.
#
#   tpu_setup/delete.sh [--config FILE] [--dry-run] [--yes]
#
# Shows what there is and asks for its name; --yes does not ask. A command that still runs is told
# first to save and end, for two minutes at most. Afterwards it looks again in every zone.
#
# Exit code: 0 nothing is left, 1 something may be, 2 misused.

. "$(dirname "$0")/common.sh"

while [ $# -gt 0 ]; do
  common_option "$@" && shift "$TAKEN"
done
load_config

find_slice
[ "$STATE" != UNKNOWN ] || fail "it cannot be told whether $NAME exists; nothing was deleted"
if [ "$STATE" = ABSENT ]; then say "there is no $NAME in $ZONES" && exit 0; fi
say "$NAME, $SLICES x $ACCELERATOR in $ZONE of $PROJECT, is $STATE"
typed "This deletes it with its disks; $([ "${WORKDIR#gs://}" = "$WORKDIR" ] && echo 'the run on them is LOST (fetch.sh copies it)' || echo "$WORKDIR stays")."

if [ "$STATE" = READY ]; then worker stop "$NAME" || say "it could not be told to save"; fi
if [ "$QUEUED" = yes ]; then
  tpus queued-resources delete "$NAME" --force
else
  tpus tpu-vm delete "$NAME"
fi
if [ "$DRY_RUN" = yes ]; then end_dry_run; fi
find_slice
[ "$STATE" = ABSENT ] || fail "$NAME is $STATE in $ZONE; look again in a minute with delete.sh"
say "nothing of that name is left in $ZONES"
