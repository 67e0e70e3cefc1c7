import pytest

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.variants_text import NotSubstitution, fitting_first, mutate, parse_variant

WILD = "MKTAYIAKQRQISFVKSHFSRQ"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("A123T", "A123T"),
        ("A123T:G124S", "A123T G124S"),
        ("A123T,G124S", "A123T G124S"),
        ("A123=", "A123A"),
        ("WT", ""),
        ("p.Ala123Thr", "A123T"),
        ("NP_000537.3:p.(Arg175His)", "R175H"),
        ("NP_000537.3(TP53):p.Arg175His", "R175H"),
        ("p.R175H", "R175H"),
        ("p.(Cys188=)", "C188C"),
        ("p.=", ""),
        ("ENSP00000269305.4:p.=", ""),
        ("p.[Ser44Arg;Trp46Arg]", "S44R W46R"),
        ("p.[(Ser44Arg;Trp46Arg)]", "S44R W46R"),
        ("p.Sec49Cys", "U49C"),
    ],
)
def test_substitutions_are_read(text, want):
    assert " ".join(map(str, parse_variant(text))) == want


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A123*", "a stop gained"),
        ("p.Trp24Ter", "a stop gained"),
        ("p.(Trp24*)", "a stop gained"),
        ("p.Arg97ProfsTer23", "a frameshift"),
        ("p.(Arg97fs)", "a frameshift"),
        ("p.Ter110GlnextTer17", "an extension"),
        ("p.Ter110Gln", "the stop lost"),
        ("p.Lys23_Val25del", "a deletion"),
        ("p.Cys28delinsTrpVal", "a deletion with insertion"),
        ("p.Val7dup", "a duplication"),
        ("p.Lys2_Gly3insGlnSer", "an insertion"),
        ("p.Met1?", "an unknown effect"),
        ("p.?", "an unknown effect"),
        ("p.0", "no protein"),
        ("p.[Ser68Arg];[Asn594del]", "two alleles"),
        ("p.[Ser73Arg(;)Asn103Lys]", "not known whether"),
    ],
)
def test_what_is_no_substitution_says_what_it_is(text, reason):
    with pytest.raises(NotSubstitution, match=reason):
        parse_variant(text)


@pytest.mark.parametrize(
    "text", ["a123t", "A123", "123", "A 123 T", "Ala123Thr", "c.76A>T", "A123TT", "p.Foo1Ala", ":"]
)
def test_what_cannot_be_read_says_how_to_write(text):
    with pytest.raises(BadText, match="is no substitution") as caught:
        parse_variant(text)
    assert "A123T:G124S" in caught.value.fix


def test_mutate_exchanges_by_number():
    assert mutate(WILD, parse_variant("M1V:Q22A")) == "V" + WILD[1:-1] + "A"
    assert mutate(WILD, parse_variant("p.Met24Val"), first=24) == "V" + WILD[1:]
    assert mutate(WILD, ()) == WILD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A2T", "residue 2 is K, not A"),
        ("K23T", "numbered 1 to 22"),
        ("K0T", "numbered 1 to 22"),
        ("K2T:K2R", "residue 2 is named twice"),
        ("K2T:A3R", "A3R: residue 3 is T, not A"),
    ],
)
def test_a_variant_that_does_not_fit(text, words):
    with pytest.raises(BadText, match=words):
        mutate(WILD, parse_variant(text))


def test_the_shift_that_fits_all_is_found():
    variants = [parse_variant(f"{letter}{24 + i}A") for i, letter in enumerate(WILD)]
    assert fitting_first(variants, WILD) == [24]
    assert fitting_first([parse_variant("Q10A")], WILD) == [-11, 0, 2]
    assert fitting_first([*variants, parse_variant("W24A")], WILD) == []
    assert fitting_first([], WILD) == []
