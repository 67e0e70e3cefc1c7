# Sourced by the scripts of this folder: options, configuration, and how gcloud is called.
# shellcheck shell=bash disable=SC2034 # the scripts that source it use the variables
set -euf -o pipefail # no word below is a pattern of file names
LC_ALL=C # [a-z] means the ASCII letters

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KEYS="PROJECT NAME ZONES ACCELERATOR SLICES SPOT QUEUED WAIT WORKDIR EXTRAS RUNTIME NETWORK"
KEYS="$KEYS SUBNETWORK SERVICE_ACCOUNT PRICES"
SLICES=1 SPOT=yes QUEUED=yes WAIT=2h EXTRAS=tpu
PROJECT='' NAME='' ZONES='' ACCELERATOR='' WORKDIR='' RUNTIME='' NETWORK='' SUBNETWORK=''
SERVICE_ACCOUNT='' PRICES=''

CONFIG=${BIOFM_TPU_CONF:-tpu.conf}
DRY_RUN=no YES=no
POLL=${BIOFM_TPU_POLL:-30} # seconds between two looks
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT

say() { printf '%s\n' "$*" >&2; }
end_dry_run() { say "dry run: nothing was done" && exit 0; }
told() { if [ "$DRY_RUN" = yes ]; then say "dry run: nothing was done"; else say "$*"; fi; }
fail() { say "error: $*" && exit 1; }
misuse() { say "error: $*" && exit 2; }

common_option() { # OPTION [VALUE]: sets TAKEN, how many words it was
  TAKEN=1
  case "$1" in
    --config) [ $# -gt 1 ] || misuse "--config needs a file" && CONFIG=$2 TAKEN=2 ;;
    --config=*) CONFIG=${1#*=} ;;
    --dry-run) DRY_RUN=yes ;;
    --yes) YES=yes ;;
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) misuse "unknown option $1; $(basename "$0") --help lists them" ;;
  esac
}

load_config() {
  [ -f "$CONFIG" ] || misuse "there is no $CONFIG: cp tpu_setup/tpu.conf.example tpu.conf and edit" \
    "it, or give --config FILE"
  local line number=0 key value
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    case "$line" in '' | '#'*) continue ;; esac
    read -r key <<<"${line%%=*}"
    read -r value <<<"${line#*=}"
    [[ $line == *=* && $key =~ ^[A-Z_]+$ && " $KEYS " == *" $key "* ]] ||
      misuse "$CONFIG:$number: '$line' is not KEY = value, with one of the keys $KEYS"
    printf -v "$key" '%s' "$value"
  done <"$CONFIG"
  check_config
}

check() { # KEY PATTERN RULE
  [[ ${!1} =~ $2 ]] || misuse "$CONFIG: $1 = '${!1}' $3"
}

check_config() {
  local zone
  check NAME '^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$' \
    "must be 1 to 40 lower-case letters, digits and hyphens, beginning with a letter"
  check PROJECT '^[a-z][-a-z0-9.:]*[a-z0-9]$' "is not the id of a Google Cloud project"
  check SLICES '^[1-9][0-9]*$' "must be a number from 1"
  check SPOT '^(yes|no)$' "must be yes or no"
  check QUEUED '^(yes|no)$' "must be yes or no"
  check WAIT '^[1-9][0-9]*[smhd]$' "must be a time such as 30m or 2h"
  check EXTRAS '^[a-z,]+$' "must be extras of the package, with commas between"
  case "$WORKDIR" in
    gs://*) check WORKDIR '^gs://[a-z0-9][-a-z0-9._]+/.+' "must be gs://BUCKET/FOLDER" ;;
    -* | /* | '~'*)
      misuse "$CONFIG: WORKDIR = '$WORKDIR' must be gs://BUCKET/FOLDER, or for one worker a folder" \
        "in its checkout, such as runs/NAME"
      ;;
  esac
  [ -n "$ZONES" ] || misuse "$CONFIG: ZONES names no zone to try"
  for zone in $ZONES; do
    [[ $zone =~ ^[a-z]+-[a-z]+[0-9]+-[a-z0-9]+$ ]] || misuse "$CONFIG: '$zone' in ZONES is no zone"
  done
  [ "$SLICES" = 1 ] || [ "$QUEUED" = yes ] || misuse "$CONFIG: SLICES = $SLICES needs QUEUED = yes"
  check ACCELERATOR '^(v4|v5p|v5litepod|v6e)-[1-9][0-9]*$' \
    "must be v4-N, v5litepod-N (that is v5e), v5p-N or v6e-N"
  CHIPS=${ACCELERATOR##*-}
  case "$ACCELERATOR" in # v4 and v5p are named by their TensorCores, two in a chip
    v4-*) GENERATION=v4 CHIPS=$((CHIPS / 2)) RUNTIME=${RUNTIME:-tpu-ubuntu2204-base} ;;
    v5p-*) GENERATION=v5p CHIPS=$((CHIPS / 2)) RUNTIME=${RUNTIME:-v2-alpha-tpuv5} ;;
    v5l*) GENERATION=v5e RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite} ;;
    v6e-*) GENERATION=v6e RUNTIME=${RUNTIME:-v2-alpha-tpuv6e} ;;
  esac
  RECORD=runs/tpu/$NAME # on this machine: the command that was launched, and the logs
}

quote() { # the words as one line of shell, whatever they hold
  local word line='' mark="'" escape="'\\''"
  for word; do
    case "$word" in
      '' | *[!A-Za-z0-9_@%+=:,./-]*) line="$line '${word//$mark/$escape}'" ;;
      *) line="$line $word" ;;
    esac
  done
  printf '%s' "${line# }"
}

run() { # run a command, or show it under --dry-run
  if [ "$DRY_RUN" = yes ]; then printf '+ %s\n' "$(quote "$@")"; else "$@"; fi
}

typed() { # WHY: true after --yes, or when the name is typed
  local answer=''
  [ "$YES" = yes ] || [ "$DRY_RUN" = yes ] && return 0
  say "$1"
  printf 'Type %s to go on: ' "$NAME" >&2
  read -r answer || true
  [ "$answer" = "$NAME" ] || misuse "'$answer' is not $NAME: nothing was done (--yes skips this)"
}

tpus() { # NOUN VERB NAME FLAG...: gcloud compute tpus, in the project and in ZONE
  run gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE" --quiet
}

. "$HERE/slice.sh"
