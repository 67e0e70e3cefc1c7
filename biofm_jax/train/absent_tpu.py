"""libtpu on a machine without TPU, where plans are made (the extra `plan`)."""

import importlib.util
import os
from pathlib import Path

# libtpu asks the cloud it runs in who it is, complains where there is none, and locks the chips,
# of which a description needs none: two plans may be made at once.
ALONE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
GOOGLE = "0x1ae0"  # as a vendor on the PCI bus


def has_tpu(bus: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether a chip of Google's is on this machine's bus."""
    return any(path.read_text().strip() == GOOGLE for path in bus.glob("*/vendor"))


def leave_libtpu_alone() -> None:
    """Tell libtpu what it would ask the cloud for; what the environment says already stays."""
    for name, value in ALONE.items():
        os.environ.setdefault(name, value)


def quiet_libtpu() -> None:
    """Where libtpu is installed and there is no TPU, keep it from complaining in every run."""
    if importlib.util.find_spec("libtpu") is not None and not has_tpu():
        leave_libtpu_alone()
