"""From the name of a slice to its devices, which need not be here."""

import dataclasses
import difflib
import importlib.util
import math
import re

import jax

from biofm_jax.errors import UserError
from biofm_jax.plan.chips import ALIASES, CHIPS, Chip
from biofm_jax.train.absent_tpu import leave_libtpu_alone


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of chips of one kind, or devices simulated on this machine's CPU.

    Attributes:
        chip: None for a CPU, which has no published peak.
        shape: chips along each dimension of the slice.
    """

    chip: Chip | None
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """Number of chips; each is one device."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """As it is written, `v5e:4x4` or `cpu:8`."""
        return f"{self.chip.name if self.chip else 'cpu'}:{'x'.join(map(str, self.shape))}"

    def larger(self) -> list["Topology"]:
        """The larger slices of this chip, smallest first."""
        if self.chip is None:
            return []
        shapes = sorted(self.chip.shapes, key=math.prod)
        return [Topology(self.chip, s) for s in shapes if math.prod(s) > self.chips]

    def devices(self) -> list:
        """Devices to compile for.

        Raises:
            UserError: libtpu is not installed, or this process has fewer simulated devices.
        """
        return self._simulated() if self.chip is None else self._described()

    def _described(self) -> list:
        if importlib.util.find_spec("libtpu") is None:
            raise UserError(
                f"compiling for {self.name} needs libtpu, which needs no TPU: "
                "pip install 'biofm_jax[plan]'; --topology cpu:8 works without it"
            )
        leave_libtpu_alone()
        from jax.experimental import topologies

        options = {"chip_config_name": self.chip.config} if self.chip.config else {}
        if self.chips == 1:
            options["chips_per_host_bounds"] = (1, 1, 1)
        return topologies.get_topology_desc(
            platform="tpu", topology_name=self.name, **options
        ).devices

    def _simulated(self) -> list:
        devices = jax.devices("cpu")
        if len(devices) < self.chips:
            raise UserError(
                f"this process has {len(devices)} CPU devices; {self.name} needs "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={self.chips}"
            )
        return devices[: self.chips]


def known_names() -> list[str]:
    """Every slice by its shape (`v5e:4x4`) and by its accelerator type (`v5e-16`)."""
    names = []
    for chip in CHIPS.values():
        for chips, shape in chip.by_chips().items():
            names += [Topology(chip, shape).name, f"{chip.name}-{chips * chip.counted}"]
    return names


def parse_topology(name: str) -> Topology:
    """A topology by name: `v5e:4x4`, `v5e-16`, `v5litepod-16`, `v5p-8` (four chips) or `cpu:8`.

    Raises:
        UserError: no slice has that name; the nearest that exists is named.
    """
    text = name.strip().lower()
    if found := re.fullmatch(r"cpu[:-](\d+)", text):
        if not 1 <= int(found[1]) <= 1024:
            raise UserError(f"{name}: simulate between 1 and 1,024 CPU devices")
        return Topology(None, (int(found[1]),))
    found = re.fullmatch(r"(\w+?)(:|-)([\dx]+)", text)
    chip = CHIPS.get(ALIASES.get(found[1], found[1])) if found else None
    if chip is None:
        raise UserError(
            f"there is no topology {name!r}{_near(text)}; it is a chip ({', '.join(CHIPS)}) and "
            "its slice, as v5e:4x4 or v5e-16, or cpu:8 for simulated devices"
        )
    if found[2] == "-" and found[3].isdigit():
        by_units = {n * chip.counted: shape for n, shape in chip.by_chips().items()}
        if int(found[3]) in by_units:
            return Topology(chip, by_units[int(found[3])])
        nearest = min(by_units, key=lambda n: abs(math.log(n / max(1, int(found[3])))))
        units = "chips" if chip.counted == 1 else "TensorCores, two a chip"
        raise UserError(
            f"there is no {name}: the number counts {units}; the nearest is {chip.name}-{nearest}"
        )
    shape = tuple(int(n) for n in found[3].split("x") if n)
    if found[2] == ":" and tuple(sorted(shape)) in {tuple(sorted(s)) for s in chip.shapes}:
        return Topology(chip, next(s for s in chip.shapes if sorted(s) == sorted(shape)))
    chips = max(1, math.prod(shape))
    nearest = min(chip.by_chips(), key=lambda n: abs(math.log(n / chips)))
    slices = ", ".join("x".join(map(str, s)) for s in chip.shapes)
    raise UserError(
        f"{chip.name} has no slice {found[3]}; the nearest is "
        f"{Topology(chip, chip.by_chips()[nearest]).name} (there are {slices})"
    )


def _near(text: str) -> str:
    near = difflib.get_close_matches(text, known_names(), 1, 0.3)
    return f"; the nearest is {near[0]}" if near else ""
