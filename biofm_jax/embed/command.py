"""`biofm embed`: embeddings of a file of any size, with ids in its order."""

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from biofm_jax import __version__, specs
from biofm_jax.adapt.embed_images import ImageEmbedder
from biofm_jax.adapt.embed_stream import Embedder
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.layer_states import Pooling
from biofm_jax.data.progress import told
from biofm_jax.data.sources import file_digest
from biofm_jax.embed.images import ImageSource, refuse_text_options
from biofm_jax.embed.parts import Parts, refuse_other
from biofm_jax.embed.source import Source, Survey, one_ahead, survey
from biofm_jax.embed.tables import ENDINGS, Layout, check_space, merge, read_facts
from biofm_jax.errors import UserError
from biofm_jax.experiment import load_encoder
from biofm_jax.train.lock import locked

# Letters of a part: what a stopped job repeats at most. A minute or so of work.
LETTERS = {"cpu": 1 << 19}
LETTERS_ELSEWHERE = 1 << 23
PART_BYTES = 1 << 28  # of a part's results


@dataclasses.dataclass(frozen=True)
class Embed:
    """Write the embeddings of all sequences of a file, in its order, beside their ids.

    biofm embed runs/esm2 proteins.fasta.gz proteins.parquet

    biofm embed runs/vit scans/ scans.parquet

    biofm embed runs/smiles library.csv library.safetensors --column smiles --dtype float16

    A Parquet file has columns `id` and `embedding`. A sequence's embedding does not depend on
    the others, on their order or on the batch. Killed at any moment and started again with the
    same command, it goes on with the parts that are finished, in OUT.parts, and writes the same
    file to the last bit.

    Attributes:
        model: folder of a finished run, FOLDER@best, of an import, or random:EXPERIMENT.py.
        input: .fasta .fa .faa, .csv .tsv, .smi, .txt (a text a line), each also with .gz behind;
            for a model of images a folder, a table that names files, or one .npz or volume.
        out: file to write, .parquet or .safetensors.
        pooling: mean over tokens (special ones left out), the first token (cls), or one vector
            for each token of the text (tokens): those that the tokenizer puts before and behind
            it, cls and eos, are left out.
        layers: hidden states after these many blocks, before any final norm, 0 being the
            embeddings; columns embedding_layer_N. By default the model's output.
        dtype: of the numbers written.
        long: what to do with a sequence of more tokens than the model's rows: read it in windows
            of equal length side by side (mean: over all its tokens; cls: of the first window;
            tokens: each from its window), truncate it, or stop with an error.
        column: column of a table with the text; by default the first known name.
        id_column: column of a table with the id; by default a known name, or the line number.
        tolerance: share of bad records with which to go on; they are listed in
            OUT.bad_records.jsonl.
        batch_tokens: tokens of a batch on the device; by default what suits the platform.
        part_letters: letters of a part, which a stopped job repeats; by default what suits the
            platform.
        seed: of a random model.
        dry_run: check the input, count, estimate; write nothing.
        json: print JSON instead of a table.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    input: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INPUT")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    pooling: Pooling = "mean"
    layers: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = ()
    dtype: Literal["float32", "float16"] = "float32"
    long: Literal["window", "truncate", "error"] = "window"
    column: str = ""
    id_column: str = ""
    tolerance: float = 0.0
    batch_tokens: int | None = None
    part_letters: int | None = None
    seed: int = 0
    dry_run: bool = False
    json: bool = False


class Job:
    """One call of the command, its model loaded.

    Raises:
        UserError: options that cannot be, or a model or layer that is not there.
    """

    def __init__(self, options: Embed):
        if options.out.suffix not in ENDINGS:
            raise UserError(f"{options.out}: OUT ends in {' or '.join(ENDINGS)}")
        if not 0 <= options.tolerance < 1:
            raise UserError(f"--tolerance is {options.tolerance}; a share is in 0 to 1")
        for name in ("batch_tokens", "part_letters"):
            if (value := getattr(options, name)) is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} is {value}; use 1 or more")
        self.options = options
        encoder = load_encoder(options.model).reader()
        if encoder.data.shapes(1).coordinates is not None:
            raise UserError(
                f"{options.model} reads molecules as atoms in space, and `biofm embed` writes "
                "embeddings of texts and graphs; use it by `biofm evaluate --method probe`"
            )
        asked = {
            "pooling": options.pooling,
            "layers": options.layers or None,
            "dtype": options.dtype,
            "batch_tokens": options.batch_tokens,
            "seed": options.seed,
        }
        if encoder.reads_images:
            refuse_text_options(options.long, options.id_column)
            self.source = ImageSource(options.input, encoder.data, options.column)
            self.embedder = ImageEmbedder(encoder, **asked)
        else:
            self.source = Source(options.input, encoder.data, options.column, options.id_column)
            self.embedder = Embedder(encoder, truncate=options.long == "truncate", **asked)
        names = tuple(f"embedding_layer_{layer}" for layer in options.layers) or ("embedding",)
        by_token = options.pooling == "tokens"
        self.layout = Layout(names, self.embedder.width, options.dtype, by_token)
        platform = jax.default_backend()
        self.unit = "images" if encoder.reads_images else "sequences"
        letters = options.part_letters or LETTERS.get(platform, LETTERS_ELSEWHERE)
        if by_token:
            letters = min(letters, max(1, PART_BYTES // self._bytes_of_vector()))
        self.letters = letters
        self.parts = Parts(options.out.with_name(options.out.name + ".parts"))
        self._encoder = encoder

    def _bytes_of_vector(self) -> int:
        size = np.dtype(self.options.dtype).itemsize
        return size * self.embedder.width * len(self.layout.columns)

    def facts(self) -> dict[str, Any]:
        """What the result depends on; it is written with it, and parts are mixed only if equal."""
        options, encoder = self.options, self._encoder
        if encoder.reads_images:
            reads, content = {"images": encoder.data.recorded()}, self.source.digest()
        else:
            reads = {"tokenizer": encoder.data.tokenizer().fingerprint()}
            content = file_digest(options.input)
        return {
            "model": {
                "name": encoder.name,
                "spec": specs.encode(encoder.spec),
                "weights": weights_digest(encoder, options.seed),
                **reads,
                "row_tokens": self.embedder.room,
            },
            "input": {
                "file": options.input.name,
                "sha256": content,
                "column": options.column,
                "id_column": options.id_column,
            },
            "pooling": options.pooling,
            "layers": list(options.layers) or "output",
            "dtype": options.dtype,
            "long": options.long,
            "batch_tokens": self.embedder.batch_tokens,
            "part_letters": self.letters,
            "platform": jax.default_backend(),
            "versions": {"biofm_jax": __version__, "jax": importlib.metadata.version("jax")},
        }

    def survey(self, listing: Path | None) -> Survey:
        """See `source.survey`."""
        if self._encoder.reads_images:
            return self.source.survey(tolerance=self.options.tolerance, listing=listing)
        return survey(
            self.source,
            self.embedder.room,
            tolerance=self.options.tolerance,
            listing=listing,
            refuse_long=self.options.long == "error",
        )

    def dry_run(self) -> dict[str, Any]:
        """What the job would be; nothing is written."""
        found = self.survey(None)
        if self._encoder.reads_images:
            return {"images": found.records, "bad": len(found.bad), "bytes": self._bytes(found)}
        shapes, room, tokens, examples = Counter(), 0, 0, {}
        for part in self._parts(found):
            sequences = self.source.tokenized(part)
            pieces = self.embedder.cut(sequences)
            tokens += int(pieces.lengths.sum())
            for plan in self.embedder.plan(pieces):
                shapes[plan.tokens] += 1
                room += plan.rows * plan.tokens
                examples.setdefault(plan.tokens, plan)
        seconds = sum(
            count * self.embedder.seconds(examples[length]) for length, count in shapes.items()
        )
        return {
            "sequences": found.records,
            "bad": len(found.bad),
            "tokens": found.tokens,
            "longest": found.longest,
            f"longer than {self.embedder.room}": found.long,
            "tokens read": tokens,
            "batches": sum(shapes.values()),
            "batches of rows of": ", ".join(f"{k}: {n:,}" for k, n in sorted(shapes.items())),
            "fill": tokens / room,
            "bytes": self._bytes(found),
            "about_seconds": round(seconds),
        }

    def run(self) -> dict[str, Any]:
        """Embed what is not yet embedded, and write OUT.

        Raises:
            UserError: bad input, another job's parts or result at OUT, or a full disk.
        """
        out, facts, began = self.options.out, self.facts(), time.monotonic()
        if out.exists():
            refuse_other(read_facts(out), facts, f"{out} exists already, of another job", out)
            shutil.rmtree(self.parts.folder, ignore_errors=True)
            return {"out": str(out), "done": "before"}
        found = self.parts.survey(facts) if self.parts.folder.exists() else None
        if found is None:
            found = self.survey(out.with_name(out.name + ".bad_records.jsonl"))
        elif found.bad:
            self._tolerate(found)
        check_space(self.parts.folder, 2 * self._bytes(found) - self._bytes_there())
        with locked(self.parts.folder):
            self.parts.begin(facts, found)
            count, resumed = self._embed(found, facts)
            paths = [self.parts.path(number) for number in range(count)]
            merge(paths, out)
        shutil.rmtree(self.parts.folder)
        seconds = time.monotonic() - began
        what = "images" if self.unit == "images" else "tokens"
        return {
            "out": str(out),
            self.unit: found.records,
            "bad": len(found.bad),
            **({} if self.unit == "images" else {"tokens": found.tokens}),
            "parts": count,
            "parts_from_before": resumed,
            "seconds": seconds,
            f"{what}_per_second": None if resumed else found.tokens / seconds,
        }

    def _tolerate(self, found: Survey) -> None:
        """The tolerance may have changed since the file was checked."""
        if len(found.bad) > self.options.tolerance * (found.records + len(found.bad)):
            self.survey(None)

    def _parts(self, found: Survey):
        return self.source.parts(self.letters, frozenset(found.bad))

    def _embed(self, found: Survey, facts: dict) -> tuple[int, int]:
        """Make every part that is not there; how many there are, and how many there were."""
        resumed = count = 0

        def ready():
            for number, part in enumerate(self._parts(found)):
                there = self.parts.rows(number) is not None
                yield number, part, None if there else self.source.tokenized(part)

        with told(found.records, f"{self._encoder.name}: {self.unit} embedded") as advance:
            for number, part, sequences in one_ahead(ready()):
                count += 1
                if sequences is None:
                    resumed += 1
                    advance(len(part))
                    continue
                arrays = self.embedder(sequences, advance)
                kept = self.embedder.kept(sequences)
                ids = [record.id for record in part]
                self.parts.write(number, self.layout.table(ids, arrays, kept, facts))
        return count, resumed

    def _bytes(self, found: Survey) -> int:
        """Bytes of the numbers in the result."""
        vectors = found.tokens if self.layout.by_token else found.records
        if self.layout.by_token and self.unit == "images":
            vectors *= int(self.embedder.kept([None])[0])
        return vectors * self._bytes_of_vector()

    def _bytes_there(self) -> int:
        return sum(path.stat().st_size for path in self.parts.folder.glob("*.parquet"))


def weights_digest(encoder: Encoder, seed: int) -> str:
    """16 hex digits of all parameters of a model."""
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(encoder.params_for(seed))
    for path, leaf in sorted(leaves, key=lambda each: jax.tree_util.keystr(each[0])):
        array = np.asarray(leaf)
        digest.update(json.dumps([jax.tree_util.keystr(path), array.shape]).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]
