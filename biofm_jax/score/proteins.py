"""Variants of one wild type, from a list or a table."""

import os
from pathlib import Path

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.readers import read_records
from biofm_jax.data.sequence import SequenceData
from biofm_jax.data.variant_tables import VariantTable
from biofm_jax.data.variants_text import (
    NotSubstitution,
    Substitution,
    fitting_first,
    mutate,
    parse_variant,
)
from biofm_jax.errors import UserError
from biofm_jax.score.items import SHOWN, Items

LENGTH = ("deletion", "duplication", "insertion")
ADVICE = "; as a whole sequence (column mutated_sequence) pseudo_perplexity can score it"


def read_wild_type(given: str, data: SequenceData) -> str:
    """The wild type that `--wild-type` means: the one sequence of a FASTA file, or itself.

    Raises:
        UserError: a file that is not there or holds several sequences, or letters that are none.
    """
    path, source = Path(given), "--wild-type"
    if "." in path.name or "/" in given or os.path.isfile(given):
        bad = BadRecords(given)
        records = list(read_records(path, data.kind, bad))
        if bad.records:
            raise UserError(f"{len(bad.records)} records cannot be read: {bad.records[0]}")
        if len(records) != 1:
            names = ", ".join(record.id for record in records[:SHOWN])
            raise UserError(
                f"{path} holds {len(records)} sequences ({names}); --wild-type takes a file of one"
            )
        given, source = records[0].text, str(path)
    try:
        clean = data.clean(given)
    except BadText as bad:
        raise UserError(f"{source}: {bad.reason}; {bad.fix}") from None
    if len(clean) != len(given.removesuffix("*")):
        raise UserError(f"{source} has gaps, which would shift the numbers of what follows")
    return clean


def table_items(
    table: VariantTable, wild_type: str | None, data: SequenceData, first: int, marginal: bool
) -> Items:
    """The variants of a table as whole sequences, each held against the wild type.

    Args:
        table: from `read_variants`.
        wild_type: clean; None where the table has whole sequences to be scored alone.
        data: cleans whole sequences.
        first: number of the wild type's first letter.
        marginal: whether the score is for substitutions only.

    Raises:
        UserError: mutations without a wild type, a residue that the wild type does not have
            there, or a row that cannot be read; file, line and variant are named.
    """
    where = tuple(
        f"{table.path}, line {line}: {cell[:40]}"
        for line, cell in zip(table.lines, table.variants, strict=True)
    )
    if table.whole:
        texts, reasons = _whole(table, wild_type, data, marginal)
    elif wild_type is None:
        raise UserError(
            f"{table.path}: column {table.column!r} holds mutations, of a sequence that is not "
            "named; give --wild-type FASTA or the sequence"
        )
    else:
        texts, reasons = _mutated(table, wild_type, first)
    lower = {name.lower(): name for name in table.columns}
    ids = table.columns[lower["id"]] if "id" in lower else table.variants
    columns = {n: cells for n, cells in table.columns.items() if n != lower.get("id")}
    return Items(ids, where, texts, None, wild_type, reasons, columns)


def _mutated(table: VariantTable, wild_type: str, first: int):
    """(n,) sequences and reasons of a column of mutations."""
    parsed: list[tuple[Substitution, ...] | None] = []
    reasons, problems = [], []
    for line, cell in zip(table.lines, table.variants, strict=True):
        reason, found = "", None
        try:
            found = parse_variant(cell)
        except NotSubstitution as other:
            reason = str(other)
            reason += ADVICE if reason.endswith(LENGTH) else ""
        except BadText as bad:
            problems.append(f"line {line}: {bad.reason}; {bad.fix}")
        parsed.append(found)
        reasons.append(reason)
    _raise(table, problems)
    texts: list[str | None] = []
    for line, found in zip(table.lines, parsed, strict=True):
        texts.append(None)
        if found is not None:
            try:
                texts[-1] = mutate(wild_type, found, first)
            except BadText as bad:
                problems.append(f"line {line}: {bad.reason}; {bad.fix}")
    if problems:
        fitting = fitting_first([found for found in parsed if found], wild_type)
        listed = " or ".join(map(str, fitting[:3])) + (", ..." if len(fitting) > 3 else "")
        hint = f"all rows fit with --first {listed}" if fitting else "no --first fits all rows"
        _raise(table, problems, hint)
    return tuple(texts), tuple(reasons)


def _whole(table: VariantTable, wild_type: str | None, data, marginal: bool):
    """(n,) sequences and reasons of a column of whole sequences."""
    texts, reasons, problems = [], [], []
    for line, cell in zip(table.lines, table.variants, strict=True):
        reason, text = "", None
        try:
            text = data.clean(cell)
        except BadText as bad:
            problems.append(f"line {line}: {cell[:40]}: {bad.reason}; {bad.fix}")
        if marginal and text is not None and wild_type and len(text) != len(wild_type):
            reason = (
                f"{len(text)} letters and the wild type {len(wild_type)}: marginal scores are for "
                "substitutions; pseudo_perplexity scores insertions and deletions"
            )
        texts.append(None if reason else text)
        reasons.append(reason)
    _raise(table, problems)
    return tuple(texts), tuple(reasons)


def _raise(table: VariantTable, problems: list[str], hint: str = "") -> None:
    if problems:
        more = f"\n{hint}" if hint else ""
        raise UserError(
            f"{table.path}: {len(problems)} of {len(table.lines)} variants are wrong:\n  "
            + "\n  ".join(problems[:SHOWN])
            + more
        )
