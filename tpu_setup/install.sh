#!/usr/bin/env bash
# Install this checkout on every worker: the same commit and the same pinned versions.
#
#   tpu_setup/install.sh [--config FILE] [--dry-run]
#
# Sends the commit that is checked out (as a git bundle, so that results name it), makes a virtual
# environment from constraints.txt with the extras of EXTRAS, mounts the bucket of WORKDIR under
# /gcs, and compares what the workers report: a difference is an error. Run it again after a commit.
#
# Exit code: 0 all workers are equal, 1 they are not, 2 misused.

. "$(dirname "$0")/common.sh"

while [ $# -gt 0 ]; do
  common_option "$@" && shift "$TAKEN"
done
load_config

changed=$(git -C "$HERE/.." status --porcelain --untracked-files=no &&
  git -C "$HERE/.." ls-files --others --exclude-standard '*.py')
[ -z "$changed" ] || [ "$DRY_RUN" = yes ] ||
  misuse "the workers get commits, and these files are in none:"$'\n'"$changed"$'\n'"commit or remove them"
commit=$(git -C "$HERE" rev-parse HEAD)
bucket=''
case "$WORKDIR" in gs://*) bucket=${WORKDIR#gs://} bucket=${bucket%%/*} ;; esac

need_ready
count_workers
say "installing $commit on the workers of $NAME"
run git -C "$HERE" bundle create --quiet "$SCRATCH/biofm_jax.bundle" HEAD
to_workers "$SCRATCH/biofm_jax.bundle" "$HERE/worker_install.sh"
on_workers all "bash worker_install.sh $(quote "$commit" "$EXTRAS" "$bucket")" ||
  fail "a worker could not install; its reason stands above"
worker versions >"$SCRATCH/versions"
if [ "$DRY_RUN" = yes ]; then cat "$SCRATCH/versions" && end_dry_run; fi

kinds=$(grep '^biofm-versions' "$SCRATCH/versions" | sort | uniq -c || true)
say "$kinds"
[ "$(grep -c '^biofm-versions' "$SCRATCH/versions")" = "$WORKERS" ] ||
  fail "not all of the $WORKERS workers answered"
[ "$(printf '%s\n' "$kinds" | wc -l)" -eq 1 ] || fail "the workers differ; run install.sh again"
say "installed on $WORKERS workers; next: launch.sh -- python tpu_setup/check_devices.py --distributed True"
