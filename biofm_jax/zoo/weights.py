"""Published weight files: what tensors they hold, read one by one; nothing is unpickled."""

import dataclasses
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from biofm_jax.errors import UserError

# In a folder the first of these that is there is read.
KNOWN = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
TORCH_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")
# safetensors' names of the types that weights come in, and NumPy's (ml_dtypes for bfloat16).
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
          "I64": "int64", "I32": "int32", "U8": "uint8", "BOOL": "bool"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Header:
    """One tensor of a file.

    Attributes:
        file: the file that holds it; None in memory.
        shape: its shape.
        dtype: its type, by NumPy's name.
    """

    file: Path | None
    shape: tuple[int, ...]
    dtype: str


class Weights:
    """The tensors of one or several files, by name. Only their headers are in memory.

    Attributes:
        tensors: name -> `Header`.
        metadata: file name -> the metadata of its header.
        index: name and text of the index of safetensors shards; None: there is none.
    """

    index: dict[str, str] | None = None

    def __init__(self, files: list[Path]):
        """Read the headers.

        Raises:
            UserError: a file is cut short, damaged, or holds more than tensors.
        """
        self.tensors: dict[str, Header] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self._open: dict[Path, Any] = {}
        for file in files:
            self._open[file] = opened = _Torch(file) if _is_torch(file) else _Safe(file)
            self.metadata[file.name] = opened.metadata
            for name, shape, dtype in opened.headers():
                if name in self.tensors:
                    raise UserError(f"{file}: {name} stands in {self.tensors[name].file} as well")
                self.tensors[name] = Header(file, shape, dtype)

    def read(self, name: str) -> np.ndarray:
        """One tensor, in the type that it is stored in."""
        return self._open[self.tensors[name].file].read(name)


class InMemory(Weights):
    """Tensors that are at hand: name -> NumPy array."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.tensors = {
            name: Header(None, array.shape, array.dtype.name) for name, array in arrays.items()
        }
        self.metadata = {}
        self._arrays = arrays

    def read(self, name: str) -> np.ndarray:
        """One tensor."""
        return self._arrays[name]


def open_weights(path: Path) -> Weights:
    """The weights of a published checkpoint.

    Args:
        path: `*.safetensors`, `*.safetensors.index.json` with its shards beside it, a torch file
            of tensors (`pytorch_model.bin`, its index, `*.pt`), or a folder with one of these.

    Raises:
        UserError: nothing of the kind is there, an index names an absent shard or disagrees with
            one, or a file is damaged or holds more than tensors.
    """
    if path.is_dir():
        found = [path / name for name in KNOWN if (path / name).is_file()]
        found = found or sorted(path.glob("*.safetensors"))[:2]
        if not found:
            raise UserError(f"{path} holds none of {', '.join(KNOWN)}; give the file itself")
        if len(found) > 1 and found[0].name not in KNOWN:
            raise UserError(f"{path} holds several safetensors files and no index; name one")
        path = found[0]
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a weights file or the folder that holds it")
    return _open_index(path) if path.suffix == ".json" else Weights([path])


def _open_index(path: Path) -> Weights:
    try:
        wanted = json.loads(path.read_text())["weight_map"]
        shards = sorted(set(wanted.values()))
        if not all(isinstance(shard, str) for shard in shards):
            raise TypeError("files are named by text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no index of shards: no weight_map in it ({error})") from None
    for shard in shards:
        if "/" in shard or "\\" in shard:
            raise UserError(f"{path} names the shard {shard!r}; shards lie beside their index")
    absent = [shard for shard in shards if not (path.parent / shard).is_file()]
    if absent:
        raise UserError(
            f"{path} names shards that are not beside it: {', '.join(absent)}; fetch them too"
        )
    weights = Weights([path.parent / shard for shard in shards])
    wrong = [f"{n} is not in {s}" for n, s in wanted.items() if not _in(weights, n, s)]
    wrong += [f"{name} is in no shard's list" for name in weights.tensors.keys() - wanted.keys()]
    if wrong:
        raise UserError(f"{path} disagrees with its shards: {'; '.join(sorted(wrong)[:10])}")
    if not any(_is_torch(Path(shard)) for shard in shards):
        weights.index = {"name": path.name, "text": path.read_text()}
    return weights


def _in(weights: Weights, name: str, shard: str) -> bool:
    return name in weights.tensors and weights.tensors[name].file.name == shard


def _is_torch(file: Path) -> bool:
    return file.suffix in TORCH_ENDINGS


class _Safe:
    """A safetensors file; each tensor is read when it is asked for."""

    def __init__(self, file: Path):
        self._file = file
        try:
            self._opened = safe_open(file, framework="numpy")
            self.metadata = self._opened.metadata() or {}
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(
                f"{file} is no whole safetensors file ({error}); fetch it again"
            ) from error

    def headers(self) -> Iterator[tuple[str, tuple[int, ...], str]]:
        """Name, shape and type of each tensor, in the file's order."""
        for name in self._opened.offset_keys():
            header = self._opened.get_slice(name)
            kind = header.get_dtype()
            if kind not in DTYPES:
                raise UserError(f"{self._file}: {name} is of type {kind}; known are {[*DTYPES]}")
            yield name, tuple(header.get_shape()), DTYPES[kind]

    def read(self, name: str) -> np.ndarray:
        """One tensor."""
        return self._opened.get_tensor(name)


class _Torch:
    """A file that torch saved, of tensors alone: torch's own unpickler of weights reads it."""

    def __init__(self, file: Path):
        self.metadata = {"format": "pt"}
        try:
            import torch
        except ImportError:
            raise UserError(
                f"{file} needs torch to be read: pip install 'biofm_jax[parity]', or take the "
                "model's safetensors file"
            ) from None
        # Files from before torch 1.6 are no zip archives and cannot be mapped into memory.
        options = {"map_location": "cpu", "weights_only": True, "mmap": zipfile.is_zipfile(file)}
        try:
            state = torch.load(file, **options)
        except Exception as error:  # a damaged file raises whatever its bytes happen to mean
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UserError(
                f"{file} was not read: it is damaged, or holds more than tensors, and code in it "
                f"is never run ({reason})"
            ) from error
        for key in ("state_dict", "model"):
            if isinstance(state, dict) and isinstance(state.get(key), dict):
                state = state[key]
        found = state.items() if isinstance(state, dict) else ()
        self._state = {name: each for name, each in found if isinstance(each, torch.Tensor)}
        if not self._state or not all(isinstance(name, str) for name in self._state):
            raise UserError(f"{file} holds no tensors by name")

    def headers(self) -> Iterator[tuple[str, tuple[int, ...], str]]:
        """Name, shape and type of each tensor."""
        for name, tensor in self._state.items():
            yield name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")

    def read(self, name: str) -> np.ndarray:
        """One tensor."""
        import ml_dtypes
        import torch

        tensor = self._state[name].detach().contiguous()
        if tensor.dtype == torch.bfloat16:  # which NumPy lacks
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()
