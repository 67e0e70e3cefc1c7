"""Nucleotide variants of a VCF file, and the windows of a reference genome around them.

VCF 4.3 (samtools.github.io/hts-specs): tab-separated CHROM, POS (from 1), ID, REF, ALT, QUAL,
FILTER, INFO; ALT may list several alleles. Genotypes are not read.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.genome import clean_bases
from biofm_jax.data.readers import read_lines, read_records
from biofm_jax.errors import UserError

COLUMNS = ("CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
FEWEST = 5  # columns that a row must have here
BASES = frozenset("ACGTN")


@dataclasses.dataclass(frozen=True)
class Allele:
    """One alternative allele of a row.

    Attributes:
        line: of the file, from 1.
        chrom: name of the contig.
        position: of the first reference base, from 1.
        ref: reference bases, upper case.
        alt: the bases instead, upper case, or what stands in their place.
        cells: of `COLUMNS`, with this allele alone as ALT; blank where the row ends before.
    """

    line: int
    chrom: str
    position: int
    ref: str
    alt: str
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        """CHROM-POS-REF-ALT."""
        return f"{self.chrom}-{self.position}-{self.ref}-{self.alt}"

    def no_bases(self) -> str:
        """Why the allele names no bases to put in; empty where it does."""
        if self.alt == ".":
            return "no ALT: nothing is changed"
        if self.alt == "*":
            return "ALT * is a deletion that another row has"
        if not set(self.alt) <= BASES:
            return f"ALT {self.alt} is symbolic: it names no bases"
        return ""


def read_vcf(path: Path) -> list[Allele]:
    """All alternative alleles, in the order of the file; a row with none has one, `.`.

    Raises:
        UserError: a row that is no VCF, named by its line, or no row at all.
    """
    alleles: list[Allele] = []
    with read_lines(path) as lines:
        for number, line in lines:
            if line.startswith("#") or not line.strip():
                continue
            cells = line.split("\t")
            if len(cells) < FEWEST:
                raise UserError(
                    f"{path}, line {number}: {len(cells)} columns separated by tabs, and VCF has "
                    f"{', '.join(COLUMNS[:FEWEST])} at least"
                )
            chrom, position, _, ref, alts = cells[:FEWEST]
            if not position.isdigit() or int(position) < 1:
                raise UserError(f"{path}, line {number}: POS is {position!r}; it counts from 1")
            ref = ref.upper()
            if not ref or not set(ref) <= BASES:
                raise UserError(f"{path}, line {number}: REF is {ref!r}; bases are A, C, G, T, N")
            row = [*cells, *[""] * len(COLUMNS)][: len(COLUMNS)]
            for alt in alts.split(","):
                row[COLUMNS.index("ALT")] = alt
                allele = Allele(number, chrom, int(position), ref, alt.upper(), tuple(row))
                alleles.append(allele)
    if not alleles:
        raise UserError(f"{path} holds no variant; give one with at least one row")
    return alleles


def read_contigs(path: Path, alleles: Iterable[Allele], vcf: Path) -> dict[str, str]:
    """The contigs that some alleles lie on, upper case, with REF checked everywhere.

    The FASTA file is read through once; only these contigs are kept, a byte a base.

    Args:
        path: FASTA, plain or .gz.
        alleles: at least one.
        vcf: their file, for messages.

    Raises:
        UserError: a contig is not there, a position lies behind its end, or REF is not what the
            reference has; the line of the VCF is named.
    """
    alleles, bad = list(alleles), BadRecords(str(path))
    wanted = {allele.chrom for allele in alleles}
    contigs, names = {}, []
    for record in read_records(path, "genome", bad):
        names.append(record.id)
        if record.id in wanted:
            try:
                contigs[record.id] = clean_bases(record.text)
            except BadText as error:
                raise UserError(f"{path}, {record.id}: {error.reason}; {error.fix}") from None
            if len(contigs[record.id]) != len(record.text):
                raise UserError(f"{path}, {record.id}: it has gaps, which shift all positions")
    if bad.records:
        raise UserError(f"{len(bad.records)} records cannot be read: {bad.records[0]}")
    for allele in alleles:
        where = f"{vcf}, line {allele.line}"
        if allele.chrom not in contigs:
            raise UserError(
                f"{where}: {path} has no contig {allele.chrom!r}; {_near(allele, names)}"
            )
        contig, start = contigs[allele.chrom], allele.position - 1
        stands = contig[start : start + len(allele.ref)]
        if len(stands) < len(allele.ref):
            raise UserError(
                f"{where}: {allele.chrom}:{allele.position} {allele.ref} ends behind the contig's "
                f"{len(contig):,} bases; is {path} of the same assembly?"
            )
        if stands != allele.ref:
            raise UserError(
                f"{where}: REF is {allele.ref} at {allele.chrom}:{allele.position}, and {path} has "
                f"{stands} there; is it of the same assembly?"
            )
    return contigs


def _near(allele: Allele, names: list[str]) -> str:
    other = allele.chrom.removeprefix("chr")
    other = other if other != allele.chrom else f"chr{allele.chrom}"
    if other in names:
        return (
            f"it has {other!r}: rename the contigs of one of them (they differ by the prefix chr)"
        )
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"it has {shown}"


def allele_windows(contig: str, allele: Allele, size: int) -> tuple[str, str]:
    """The window of the reference around an allele, and the same with the allele in it.

    The first reference base stands at base size // 2 (from 0), nearer to an end of the window
    only where the contig ends.

    Args:
        contig: bases.
        allele: whose REF is shorter than half the window.
        size: bases of the reference's window, at most those of the contig.

    Returns:
        Two texts; the second is longer or shorter for an insertion or deletion.
    """
    start = allele.position - 1
    size = min(size, len(contig))
    begin = max(0, min(start - size // 2, len(contig) - size))
    behind = contig[start + len(allele.ref) : begin + size]
    return contig[begin : begin + size], contig[begin:start] + allele.alt + behind
