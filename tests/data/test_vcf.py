import gzip

import pytest

from biofm_jax.data.vcf import Allele, allele_windows, read_contigs, read_vcf
from biofm_jax.errors import UserError

HEAD = "##fileformat=VCFv4.3\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
CONTIG = "ACGTTGCANN" * 3


def write(folder, rows, name="some.vcf"):
    path = folder / name
    path.write_text(HEAD + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def genome(folder, **contigs):
    path = folder / "genome.fa"
    path.write_text("".join(f">{n} of a toy\n{s[:7]}\n{s[7:]}\n" for n, s in contigs.items()))
    return path


def test_each_alternative_allele_is_a_row(tmp_path):
    path = write(
        tmp_path,
        [
            ("chr1", 2, "rs1", "C", "a,T", 50, "PASS", "AF=.1", "GT", "0/1"),
            ("chr1", 3, ".", "g", "."),
            ("chr1", 4, ".", "T", "<DEL>,*,TA", ".", ".", "."),
        ],
    )
    found = read_vcf(path)
    assert [a.name for a in found[:3]] == ["chr1-2-C-A", "chr1-2-C-T", "chr1-3-G-."]
    assert [bool(a.no_bases()) for a in found] == [False, False, True, True, True, False]
    assert "symbolic" in found[3].no_bases() and "no ALT" in found[2].no_bases()
    assert found[1].cells == ("chr1", "2", "rs1", "C", "T", "50", "PASS", "AF=.1")
    assert found[2].cells == ("chr1", "3", ".", "g", ".", "", "", "")
    assert found[0].line == found[1].line == 4


def test_a_gzip_file_reads_alike(tmp_path):
    path = write(tmp_path, [("chr1", 2, ".", "C", "A")])
    packed = tmp_path / "some.vcf.gz"
    half = path.read_bytes()
    packed.write_bytes(gzip.compress(half[:40]) + gzip.compress(half[40:]))  # as bgzip: blocks
    assert read_vcf(packed) == read_vcf(path)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("chr1 2 . C A",), "line 4: 1 columns separated by tabs"),
        (("chr1", "two", ".", "C", "A"), "line 4: POS is 'two'"),
        (("chr1", 0, ".", "C", "A"), "line 4: POS is '0'"),
        (("chr1", 2, ".", "", "A"), "line 4: REF is ''"),
        (("chr1", 2, ".", "<X>", "A"), "line 4: REF is '<X>'"),
    ],
)
def test_a_row_that_is_no_vcf_is_named(tmp_path, row, words):
    with pytest.raises(UserError, match=words):
        read_vcf(write(tmp_path, [row]))


def test_a_file_without_variants(tmp_path):
    with pytest.raises(UserError, match="holds no variant"):
        read_vcf(write(tmp_path, []))


class TestReference:
    def contigs(self, folder, *rows, **contigs):
        path = write(folder, rows)
        return read_contigs(genome(folder, **(contigs or {"chr1": CONTIG})), read_vcf(path), path)

    def test_only_the_contigs_asked_for_are_kept(self, tmp_path):
        kept = self.contigs(
            tmp_path, ("chr2", 2, ".", "C", "A"), chr1=CONTIG, chr2=CONTIG.lower(), chr3="A"
        )
        assert kept == {"chr2": CONTIG}

    def test_another_base_is_an_error_that_names_the_line(self, tmp_path):
        good, wrong = ("chr1", 2, ".", "C", "A"), ("chr1", 3, ".", "T", "A")
        with pytest.raises(UserError, match=r"some.vcf, line 5: REF is T at chr1:3, and .* has G"):
            self.contigs(tmp_path, good, wrong)

    def test_behind_the_end(self, tmp_path):
        with pytest.raises(UserError, match=r"line 4: chr1:30 NA ends behind the contig's 30"):
            self.contigs(tmp_path, ("chr1", 30, ".", "NA", "N"))

    @pytest.mark.parametrize(("ours", "theirs"), [("chr1", "1"), ("1", "chr1")])
    def test_a_prefix_that_differs_is_named(self, tmp_path, ours, theirs):
        with pytest.raises(UserError, match=rf"no contig '{ours}'; it has '{theirs}'.*prefix chr"):
            self.contigs(tmp_path, (ours, 2, ".", "C", "A"), **{theirs: CONTIG})

    def test_an_unknown_contig_lists_those_there(self, tmp_path):
        with pytest.raises(UserError, match="no contig 'chrM'; it has chr1"):
            self.contigs(tmp_path, ("chrM", 2, ".", "C", "A"))

    def test_a_contig_that_stands_twice(self, tmp_path):
        path = write(tmp_path, [("chr1", 2, ".", "C", "A")])
        fasta = tmp_path / "genome.fa"
        fasta.write_text(f">chr1\n{CONTIG}\n>chr1\n{CONTIG}\n")
        with pytest.raises(UserError, match=r"genome.fa, line 3: id 'chr1' stands already"):
            read_contigs(fasta, read_vcf(path), path)

    def test_gaps_shift_positions(self, tmp_path):
        with pytest.raises(UserError, match="gaps"):
            self.contigs(tmp_path, ("chr1", 2, ".", "C", "A"), chr1="AC-GT")


def window(position, ref, alt, size):
    return allele_windows("AACCGGTTACGT", Allele(1, "c", position, ref, alt, ()), size)


def test_windows():
    assert window(7, "T", "A", 6) == ("CGGTTA", "CGGATA")  # at base 3 of the window
    assert window(1, "A", "G", 6) == ("AACCGG", "GACCGG")  # nearer to the start of the contig
    assert window(12, "T", "G", 6) == ("TTACGT", "TTACGG")
    assert window(7, "TTA", "T", 8) == ("CCGGTTAC", "CCGGTC")
    assert window(7, "T", "TCC", 6) == ("CGGTTA", "CGGTCCTA")
    assert window(5, "G", "C", 99) == ("AACCGGTTACGT", "AACCCGTTACGT")
