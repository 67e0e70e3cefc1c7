"""Variants of a genome, from a VCF file and the FASTA file of its reference."""

from pathlib import Path

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.vcf import COLUMNS, Allele, allele_windows, read_contigs, read_vcf
from biofm_jax.errors import UserError
from biofm_jax.score.items import Items

LONGEST = 8  # letters of a token at most, where a window's first size is guessed


def allele_items(
    vcf: Path, reference: Path, encoder: Encoder, marginal: bool, bases: int = 0
) -> Items:
    """The alleles of a VCF in windows of the reference.

    A window is as long as the model's rows hold, with the variant at its middle: of 6-mers six
    bases a token less those that cls and eos take, shorter where N or an end makes more tokens.
    Each row's window depends on that row alone.

    Args:
        vcf: the variants.
        reference: FASTA of the assembly.
        encoder: a model of genomes.
        marginal: whether the score is for substitutions only.
        bases: of all windows; 0: as many as fit.

    Raises:
        UserError: see `read_vcf` and `read_contigs`; or a window that does not fit.
    """
    alleles = read_vcf(vcf)
    contigs = read_contigs(reference, alleles, vcf)
    where = tuple(f"{vcf}, line {allele.line}: {allele.name[:40]}" for allele in alleles)
    texts, references, reasons, sizes = [], [], [], []
    longest = _first_size(encoder)
    for allele, place in zip(alleles, where, strict=True):
        reason = allele.no_bases()
        if not reason and marginal and len(allele.ref) != len(allele.alt):
            reason = (
                "an insertion or deletion, and marginal scores are for substitutions; use "
                "pseudo_perplexity, or next_token for a causal model"
            )
        size = 0
        if not reason:
            size = bases or _fitting_size(encoder, contigs[allele.chrom], allele, longest)
            if max(len(allele.ref), len(allele.alt)) > size // 2:
                reason = f"{len(allele.ref)} bases to {len(allele.alt)}: too long for the window"
        pair = (None, None)
        if not reason:
            pair = allele_windows(contigs[allele.chrom], allele, size)
            if bases and (count := _tokens(encoder, pair)) > encoder.data.max_tokens:
                raise UserError(
                    f"{place}: a window of {bases} bases has {count} tokens, and the rows of "
                    f"{encoder.name} hold {encoder.data.max_tokens}; give a smaller --window"
                )
        references.append(pair[0])
        texts.append(pair[1])
        reasons.append(reason)
        sizes.append(size)
    columns = {name: tuple(a.cells[i] for a in alleles) for i, name in enumerate(COLUMNS)}
    ids = tuple(allele.name for allele in alleles)
    return Items(
        ids, where, tuple(texts), tuple(references), None, tuple(reasons), columns, tuple(sizes)
    )


def _first_size(encoder: Encoder) -> int:
    """Bases of the rows' tokens, where all are as long as the longest."""
    vocabulary = encoder.data.tokenizer().vocabulary
    longest = max(len(vocabulary.tokens[i]) for i in vocabulary.regular)
    framing = (vocabulary.cls >= 0) + (vocabulary.eos >= 0)
    return (encoder.data.max_tokens - framing) * min(longest, LONGEST)


def _fitting_size(encoder: Encoder, contig: str, allele: Allele, size: int) -> int:
    """Bases, from `size` down by the share that does not fit, that fit with either allele."""
    room, size = encoder.data.max_tokens, min(size, len(contig))
    while size > 1:
        count = _tokens(encoder, allele_windows(contig, allele, size))
        if count <= room:
            break
        size = min(size - 1, size * room // count)
    return size


def _tokens(encoder: Encoder, pair: tuple[str, str]) -> int:
    return max(len(tokens) for tokens in encoder.tokenize(pair))
