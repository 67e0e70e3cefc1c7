#!/usr/bin/env bash
# Runs on each worker, sent by install.sh: worker_install.sh COMMIT EXTRAS [BUCKET]
#
# Needs git, python3 with pip, the Internet (packages; a private worker needs Cloud NAT), and sudo
# for the mount.

set -euo pipefail

commit=$1 extras=$2 bucket=${3:-}
home=${BIOFM_HOME:-$HOME}
mount=${BIOFM_GCS_ROOT:-/gcs}
uv=$home/.local/bin/uv
cd "$home"

rm -rf biofm_jax.new
git clone --quiet --no-checkout biofm_jax.bundle biofm_jax.new
git -C biofm_jax.new checkout --quiet --detach "$commit"
rm -rf biofm_jax.old
if [ -d biofm_jax ]; then mv biofm_jax biofm_jax.old; fi
mv biofm_jax.new biofm_jax

# The images carry Python 3.10, which is too old; uv brings one.
if [ ! -x "$uv" ]; then
  python3 -m pip install --quiet --target .local/uv uv==0.13.9
  mkdir -p .local/bin
  ln -sf "$home/.local/uv/bin/uv" "$uv"
fi
cd biofm_jax
"$uv" venv --quiet --allow-existing --python "${BIOFM_PYTHON:-3.12}" "$home/biofm_venv"
"$uv" pip install --quiet --python "$home/biofm_venv/bin/python" -c constraints.txt -e ".[$extras]"

[ -n "$bucket" ] || exit 0
if ! command -v gcsfuse >/dev/null; then
  # https://cloud.google.com/storage/docs/cloud-storage-fuse/install
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg |
    sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
  echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc]" \
    "https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get update -qq
  sudo apt-get install -y -qq gcsfuse
fi
if ! mountpoint -q "$mount/$bucket"; then
  sudo mkdir -p "$mount/$bucket"
  sudo chown "$(id -u):$(id -g)" "$mount/$bucket"
  # No cache of names: what one worker writes of a checkpoint, the others must see at once. A
  # bucket without hierarchical namespace renames a folder file by file, up to this many.
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --rename-dir-limit=100000 \
    "$bucket" "$mount/$bucket"
fi
