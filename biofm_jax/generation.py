"""`biofm generate`: new sequences from a model that writes, and what they are worth."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from biofm_jax.adapt.beam import Beams
from biofm_jax.adapt.captions import caption_writer
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.generate import ROWS, Generated, generate
from biofm_jax.adapt.generated_files import PartFile, changed_settings, check_ending, render
from biofm_jax.adapt.prompts import rules
from biofm_jax.data.molecule_conditions import ConditionedSmiles
from biofm_jax.data.progress import told
from biofm_jax.errors import UserError
from biofm_jax.evaluate.provenance import provenance
from biofm_jax.evaluate.validity import judge
from biofm_jax.evaluate.validity_conditions import (
    ASKED,
    asked_and_reached,
    condition_figure,
    condition_report,
)
from biofm_jax.experiment import load_encoder
from biofm_jax.files import write_whole
from biofm_jax.generation_inputs import hash_of, read_inputs
from biofm_jax.models.cache import cache_bytes, check_decoder
from biofm_jax.models.captioner import CaptionerSpec
from biofm_jax.specs import encode

SEQUENCES = 100
REPORT, PART = ".report.json", ".part.jsonl"
PICTURE, OBEYED = ".png", ".conditions.png"

log = logging.getLogger("biofm_jax")


@dataclasses.dataclass(frozen=True)
class Generate:
    """Sample new sequences from a model that NextToken trained, or search for the likeliest.

    An encoder-decoder (T5) writes from sources, a captioner (CoCa) from images: one sequence of
    each, or --n of them.

    Killed and started again with the same options, it goes on; the result is the same. OUT gets
    a column text with the whole sequence, the model's log_likelihood of the new tokens in nats,
    their number and why they stopped. OUT.report.json says how many are valid, unique and novel.
    Molecules get a picture OUT.png of their properties beside those of known ones. A model of
    conditions is asked by its prompts, --prompt '<logp=2>'; OUT.conditions.png shows what came.

    Attributes:
        model: folder of a finished run, FOLDER@best, of an import, or random:EXPERIMENT.py.
        out: file to write: .csv, .jsonl, .fasta (sequences) or .smi (molecules).
        n: sequences of each prompt or source; by default 100 of a prompt, of a search all beams,
            and one of a source.
        prompt: how sequences begin, one or more; by default with nothing.
        prompts: a file of such beginnings, as `biofm data prepare` reads them.
        source: what an encoder-decoder reads, one or more texts. Special tokens are written as the
            tokenizer has them, such as MKT<mask>YI.
        sources: a file of such texts, as `biofm data prepare` reads them.
        images: what a captioner writes from: folders, tables or files, as `biofm embed` reads them;
            by default the held-out images of its run, whose captions the report compares.
        max_tokens: new tokens of a sequence at most; by default what the training's rows held.
        temperature: above 1 more varied, below 1 safer, 0 the likeliest token always.
        top_k: choose among so many of the likeliest tokens; 0: all.
        top_p: choose among the likeliest tokens of this total probability; 1: all.
        repetition_penalty: above 1 makes tokens that were there unlikelier.
        stop: tokens besides the end of sequence that end one; they are not part of its text.
        beams: width of a beam search; 0 samples.
        length_penalty: of a search: above 0 favours long sequences, below 0 short ones.
        seed: of the samples, and of a random model.
        rows: prompts of a batch; a matter of memory, not of the result.
        known: sequences that are not novel, to which properties are compared too; by default all
            data of the model's experiment.
        dry_run: check and show what would be made.
        json: print JSON instead of a table.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    n: int | None = None
    prompt: tuple[str, ...] = ()
    prompts: Path | None = None
    source: tuple[str, ...] = ()
    sources: Path | None = None
    images: tuple[Path, ...] = ()
    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    beams: int = 0
    length_penalty: float = 1.0
    seed: int = 0
    rows: int = ROWS
    known: Path | None = None
    dry_run: bool = False
    json: bool = False


class Generation:
    """One call of the command, checked."""

    def __init__(self, options: Generate):
        """Load the model, read the prompts, check everything.

        Raises:
            UserError: no such model, one that cannot generate, a bad prompt or option.
        """
        _check(options)
        self.options = options
        read = load_encoder(options.model)
        writes = isinstance(read.spec, CaptionerSpec)
        self.encoder: Encoder = caption_writer(read) if writes else read
        check_ending(options.out, self.encoder.data.kind)
        check_decoder(self.encoder.spec, 1)
        self.beams = Beams(options.beams, options.length_penalty) if options.beams else None
        self.given = read_inputs(options, self.encoder, read.data)
        usual = 1 if self.given.sources else options.beams or SEQUENCES
        self.each = options.n or usual
        if not options.beams and options.temperature == 0 and self.each != 1:
            raise UserError("temperature 0 gives one sequence of each prompt or source: set --n 1")
        copies = 1 if self.beams else self.each
        self.names, self.prompts, self.sources = self.given.times(copies)
        self.alone = len(self.given.names) == 1
        self.sampling = rules(
            self.encoder,
            options.stop,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            repetition_penalty=options.repetition_penalty,
            max_tokens=self._max_tokens(max(map(len, self.prompts))),
        )
        self.rows = min(len(self.prompts), max(1, options.rows // max(1, options.beams)))

    def _max_tokens(self, longest: int) -> int:
        """New tokens of a sequence at most, such that the longest prompt has room for them."""
        room = self.encoder.data.max_tokens - longest
        given = self.options.max_tokens
        if given is None and room < 1:
            raise UserError(
                f"a prompt has {longest} tokens, and the rows that {self.encoder.name} was trained "
                f"on {self.encoder.data.max_tokens}; shorten it, or set --max-tokens"
            )
        chosen = room if given is None else given
        check_decoder(self.encoder.spec, longest + chosen)
        if chosen > room:
            log.warning(
                f"sequences may grow to {longest + chosen} tokens; {self.encoder.name} was trained "
                f"on rows of {self.encoder.data.max_tokens}"
            )
        return chosen

    def describe(self) -> dict:
        """What would be made; nothing is computed."""
        longest, source = max(map(len, self.prompts)), self.given.longest
        rows = self.rows * (self.beams.width if self.beams else 1)
        size = longest + self.sampling.max_tokens
        return {
            "model": self.encoder.name,
            "sequences": len(self.prompts) * (self.each if self.beams else 1),
            "longest_prompt": longest,
            **({self.given.longest_name: source} if source else {}),
            "max_tokens": self.sampling.max_tokens,
            "batches": -(-len(self.prompts) // self.rows),
            "cache_MiB": round(cache_bytes(self.encoder.spec, rows, size, source) / 2**20, 1),
            "out": str(self.options.out),
        }

    def run(self) -> dict:
        """Generate what is not there yet, write the files, and give the report.

        Raises:
            UserError: the output is there, made with other options.
        """
        out = self.options.out
        report_path, part_path = (out.with_name(out.name + end) for end in (REPORT, PART))
        settings = json.loads(json.dumps(self._settings()))  # tuples become lists
        if out.exists() and not part_path.exists():
            return _finished(out, report_path, settings)
        if self.options.known is not None:
            self._known()  # a bad file is found before the work
        part = PartFile(part_path, settings)
        done = sum(map(len, part.batches))
        with told(self.describe()["sequences"], f"{self.encoder.name}: sequences made") as advance:
            advance(done)
            start = len(part.batches)
            options = dict(seed=self.options.seed, rows=self.rows, start=start)
            options["sources"] = self.sources
            made = generate(self.encoder, self.prompts, self.sampling, self.beams, **options)
            for number, batch in enumerate(made, start):
                part.add(list(self._rows(number * self.rows, batch)))
                advance(len(part.batches[-1]))
        rows = [row for batch in part.batches for row in batch]
        write_whole(out, render(rows, out.suffix))
        report, pictures = self.report(rows)
        for end, picture in pictures.items():
            write_whole(out.with_name(out.name + end), picture)
        content = {"report": report, "settings": settings, "run": provenance()}
        write_whole(report_path, json.dumps(content, indent=1) + "\n")
        part_path.unlink()
        return report

    def _rows(self, first: int, batch: list[list[Generated]]) -> Iterator[dict]:
        tokenizer = self.encoder.data.tokenizer()
        vocabulary = tokenizer.vocabulary
        for number, several in enumerate(batch, first):
            prompt, name = self.prompts[number], self.names[number]
            for rank, each in enumerate(several[: self.each]):
                count = (rank if self.beams else number % self.each) + 1
                last = int(each.tokens[-1]) if each.stopped else -1
                kept = each.tokens[:-1] if each.stopped else each.tokens
                stop = "eos" if last == vocabulary.eos else vocabulary.tokens[last]
                yield {
                    "id": self._id(name, count),
                    "text": tokenizer.decode(np.concatenate([prompt, kept])),
                    "log_likelihood": round(each.log_likelihood, 3),
                    "tokens": len(each.tokens),
                    "stop": stop if each.stopped else "max_tokens",
                    "prompt": tokenizer.decode(prompt),
                    **({self.given.kind: name} if self.sources else {}),
                    **self._conditions(prompt),
                    **({} if each.score is None else {"score": round(each.score, 3)}),
                }

    def _id(self, name: str, count: int) -> str:
        """Of a sequence: the only one of its source has its name."""
        if self.sources:
            return name if self.each == 1 else f"{name}_{count}"
        return str(count) if self.alone else f"{name}_{count}"

    def _conditions(self, prompt: np.ndarray) -> dict[str, float | str]:
        """What a prompt asks for, by property; empty where it leaves one open."""
        tokenizer = self.encoder.data.tokenizer()
        if not isinstance(tokenizer, ConditionedSmiles):
            return {}
        found = tokenizer.conditions(prompt)
        return {ASKED + name: found.get(name, "") for name in tokenizer.properties}

    def report(self, rows: list[dict]) -> tuple[dict, dict[str, bytes]]:
        """How long, how likely, how valid, how new; pictures by the ending of their files."""
        tokens = sum(row["tokens"] for row in rows)
        data, texts = self.encoder.data, [row["text"] for row in rows]
        judged = judge(data.kind, texts, data.clean, self._known())
        pictures = {} if judged.picture is None else {PICTURE: judged.picture}
        pairs = asked_and_reached(rows, data.clean) if data.kind == "molecule" else {}
        if pairs:
            pictures[OBEYED] = condition_figure(pairs)
        return {
            "kind": data.kind,
            **judged.report,
            **condition_report(pairs),
            **self.given.scored(rows),
            "stopped_share": sum(row["stop"] != "max_tokens" for row in rows) / len(rows),
            "tokens_mean": tokens / len(rows),
            "nats_per_token": -sum(row["log_likelihood"] for row in rows) / tokens,
        }, pictures

    def _known(self) -> Iterator[str] | None:
        """Texts that are not novel: the file's, else the experiment's; None: neither is there."""
        data, known = self.encoder.data, self.options.known
        if known is not None:
            data = dataclasses.replace(data, path=str(known), column="")
        try:
            if known is None and self.given.known is not None:
                return self.given.known()
            prepared = data.prepared()
        except UserError as error:
            if known is not None:
                raise
            log.warning(f"novelty is not told, the experiment's data cannot be read: {error}")
            return None
        return (text for texts in prepared.texts() for text in texts)

    def _settings(self) -> dict:
        """What the result depends on."""
        copies, kind = len(self.prompts) // len(self.given.names), f"{self.given.kind}s"
        sources = {} if self.sources is None else {kind: self.given.digest(copies)}
        known = self.options.known
        return {
            "model": _digest(self.encoder),
            "prompts": hash_of(self.prompts),
            **sources,
            "seed": self.options.seed,
            "n": self.each,
            "rows": self.rows,
            "known": None if known is None else str(known),
            **{f"sampling.{name}": v for name, v in dataclasses.asdict(self.sampling).items()},
            **({} if self.beams is None else dataclasses.asdict(self.beams)),
        }


def _check(options: Generate) -> None:
    if options.rows < 1 or (options.n is not None and options.n < 1) or options.beams < 0:
        raise UserError("n and rows must be 1 or more, beams 0 or more")
    if not 0 <= options.seed < 2**32:
        raise UserError(f"seed is {options.seed}; it must be 0 to {2**32 - 1}")
    choosing = (options.temperature, options.top_k, options.top_p) != (1.0, 0, 1.0)
    if options.beams and choosing:
        raise UserError("a beam search draws nothing: leave out temperature, top_k and top_p")
    if options.beams and (options.n or 0) > options.beams:
        raise UserError(f"a search with beams {options.beams} has no {options.n} sequences")


def _finished(out: Path, report_path: Path, settings: dict) -> dict:
    """The report of a finished run with these settings."""
    before = {}
    if report_path.exists():
        before = json.loads(report_path.read_text())
    if differing := changed_settings(before.get("settings", {}), settings):
        raise UserError(
            f"{out} is there, made with other options ({'; '.join(differing[:5])}); delete it or "
            "name another file"
        )
    log.info(f"{out} is there, made with these options")
    return before["report"]


def _digest(encoder: Encoder) -> str:
    """16 hex digits of the model: its spec, and the parameters of a trained one."""
    found = hashlib.sha256(json.dumps(encode(encoder.spec)).encode())
    for leaf in jax.tree.leaves(encoder.params):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]
