#!/usr/bin/env bash
# Create the slice of tpu.conf: shows the price, asks, then tries zone after zone.
#
#   tpu_setup/create.sh [--config FILE] [--dry-run] [--yes] [--rounds N]
#
# With QUEUED = yes it queues in a zone for WAIT, and a request that lapses there is removed before
# the next zone is tried. With QUEUED = no a zone without room is skipped at once. When every zone
# is full it waits and starts over, N times in all (3). Anything else that goes wrong stops it.
#
#   --dry-run   show the commands; nothing is asked of Google
#   --yes       do not ask
#
# Exit code: 0 the slice is ready, 1 it is not, 2 misused.

. "$(dirname "$0")/common.sh"

ROUNDS=3
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds) [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || misuse "--rounds needs a number" && ROUNDS=$2 && shift ;;
    *) common_option "$@" && shift $((TAKEN - 1)) ;;
  esac
  shift
done
load_config

show_price() {
  local prices=${PRICES:-$HERE/prices.csv} column=2 tier='on demand' price
  [ -f "$prices" ] || misuse "there is no price table $prices"
  if [ "$SPOT" = yes ]; then column=3 tier=spot; fi
  price=$(awk -F, -v name="$GENERATION" -v column="$column" '$1 == name { print $column }' "$prices")
  say "$NAME: $SLICES x $ACCELERATOR, $((CHIPS * SLICES)) chips of $GENERATION, $tier, in $PROJECT"
  if [ -z "$price" ]; then
    say "price unknown: $prices has none for $GENERATION, $tier"
  else
    awk -v price="$price" -v chips=$((CHIPS * SLICES)) 'BEGIN {
      printf "about $%.2f an hour, $%.0f a day (%s x $%s)\n",
        price * chips, price * chips * 24, chips " chips", price }' >&2
    say "$(sed -n '1s/^# *//p' "$prices")"
  fi
}

FLAGS=()
flag() { if [ -n "$2" ]; then FLAGS+=("$1=$2"); fi; }
flag --network "$NETWORK"
flag --subnetwork "$SUBNETWORK"
flag --service-account "$SERVICE_ACCOUNT"
if [ "$SPOT" = yes ]; then FLAGS+=(--spot); fi

request() { # ask for the slice in ZONE
  if [ "$QUEUED" = no ]; then
    tpus tpu-vm create "$NAME" --accelerator-type="$ACCELERATOR" --version="$RUNTIME" \
      ${FLAGS[@]+"${FLAGS[@]}"}
  elif [ "$SLICES" = 1 ]; then
    tpus queued-resources create "$NAME" --node-id="$NAME" --accelerator-type="$ACCELERATOR" \
      --runtime-version="$RUNTIME" --valid-until-duration="$WAIT" ${FLAGS[@]+"${FLAGS[@]}"}
  else
    tpus queued-resources create "$NAME" --node-count="$SLICES" --node-prefix="$NAME" \
      --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" \
      --valid-until-duration="$WAIT" ${FLAGS[@]+"${FLAGS[@]}"}
  fi
}

full() { # was the refusal about room in the zone, or about this zone's quota?
  grep -qi 'no more capacity\|resource.exhausted\|insufficient.*capacity\|stockout\|enough resources\|quota' \
    "$SCRATCH/refusal"
}

wait_in_queue() { # true when ready, false when the request lapsed
  local state before=''
  trap 'say "$NAME stays in the queue of $ZONE and costs once it is ready; delete.sh removes it"; exit 1' INT TERM
  while true; do
    state=$(state_here)
    if [ "$state" != "$before" ]; then say "$ZONE: $state"; fi
    before=$state
    case "$state" in
      READY) return 0 ;;
      GONE | ABSENT) return 1 ;;
    esac
    sleep "$POLL"
  done
}

try_zone() {
  say "trying $ZONE of $ZONES"
  if ! request 2>"$SCRATCH/refusal"; then
    cat "$SCRATCH/refusal" >&2
    full || fail "that is not about room in $ZONE, so no other zone is tried"
  elif [ "$DRY_RUN" = yes ] || [ "$QUEUED" = no ] || wait_in_queue; then
    told "$NAME is ready in $ZONE; next: install.sh"
    exit 0
  else
    say "the request lapsed in $ZONE after $WAIT"
    tpus queued-resources delete "$NAME" --force # holds nothing; it was made above
  fi
}

show_price
find_slice >/dev/null
[ "$DRY_RUN" = yes ] || [ "$STATE" = ABSENT ] ||
  fail "$NAME is there already, or cannot be looked up: $STATE in $ZONE"
typed "This starts to cost as soon as Google has room."

for ((round = 1; round <= ROUNDS; round++)); do
  for ZONE in $ZONES; do try_zone; done
  [ "$round" = "$ROUNDS" ] || sleep $((POLL * round * 10))
done
fail "no room in $ZONES after $ROUNDS rounds: add zones, take fewer chips, or try later"
