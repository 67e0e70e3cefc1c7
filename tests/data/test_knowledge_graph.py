import dataclasses
import gzip
import json

import numpy as np
import pytest
from toy_graph import toy_graph

from biofm_jax.data.knowledge_graph import Relation, answers_removed, load_graph
from biofm_jax.data.knowledge_graph_readers import (
    PRIMEKG,
    read_drkg,
    read_hetionet,
    read_primekg,
    read_triples,
)
from biofm_jax.errors import UserError

NODES = [
    "Gene::2\tB\tGene",
    "Gene::1\tA\tGene",
    "Compound::x\tX\tCompound",
    "Disease::d\tD\tDisease",
]
EDGES = [
    "Gene::2\tGiG\tGene::1",
    "Compound::x\tCbG\tGene::1",
    "Gene::2\tGr>G\tGene::1",
    "Gene::1\tGr>G\tGene::2",
    "Compound::x\tCtD\tDisease::d",
]


def hetionet(folder, edges, nodes=NODES):
    (folder / "nodes.tsv").write_text("\n".join(["id\tname\tkind", *nodes]) + "\n")
    text = "\n".join(["source\tmetaedge\ttarget", *edges]) + "\n"
    (folder / "edges.sif.gz").write_bytes(gzip.compress(text.encode()))
    return folder / "nodes.tsv", folder / "edges.sif.gz"


def facts(graph):
    return {
        (graph.ids[h], graph.relations[r].name, graph.ids[t]) for h, r, t in graph.triples.tolist()
    }


def test_hetionet(tmp_path):
    graph, bad = read_hetionet(*hetionet(tmp_path, EDGES))
    assert not bad.records and graph.triples.dtype == np.int32
    assert graph.ids == ("Compound::x", "Disease::d", "Gene::1", "Gene::2")
    assert graph.names == ("X", "D", "A", "B") and graph.types == ("Compound", "Disease", "Gene")
    assert graph.relations[graph.relation("GiG")] == Relation("GiG", "Gene", "Gene", True)
    assert not graph.relations[graph.relation("Gr>G")].symmetric
    assert facts(graph) == {
        ("Gene::1", "GiG", "Gene::2"),
        ("Compound::x", "CbG", "Gene::1"),
        ("Gene::2", "Gr>G", "Gene::1"),
        ("Gene::1", "Gr>G", "Gene::2"),
        ("Compound::x", "CtD", "Disease::d"),
    }


def test_numbers_do_not_depend_on_the_order_of_the_file(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    first, _ = read_hetionet(*hetionet(tmp_path / "a", EDGES))
    second, _ = read_hetionet(*hetionet(tmp_path / "b", EDGES[::-1], NODES[::-1]))
    assert first.ids == second.ids and first.relations == second.relations
    np.testing.assert_array_equal(first.triples, second.triples)


def test_bad_lines_are_counted_and_named(tmp_path):
    bad_edges = [
        "Gene::1\tGiG\tGene::2",  # line 7: line 2 backwards
        "Gene::1\tGiG\tGene::1",
        "Compound::x\tXxG\tGene::1",
        "Compound::x\tCbG\tGene::9",
        "Compound::x\tCbG",
        "Compound::x\tCbG\tGene::1",  # line 12: line 3 again
        "Compound::x\t\tGene::1",
    ]
    files = hetionet(tmp_path, EDGES + bad_edges)
    words = {"GiG", "CbG", "Gr>G", "CtD"}
    graph, bad = read_hetionet(*files, vocabulary=words, tolerance=0.9)
    reasons = {record.line: record.reason for record in bad.records}
    assert list(reasons) == list(range(7, 14)) and bad.records[0].file == str(files[1])
    for line, words_ in {
        7: "duplicated edge: Gene::1 GiG Gene::2 stands backwards in line 2",
        8: "self loop of Gene::1",
        9: "unseen relation type 'XxG'",
        10: "node 'Gene::9' is not in the list",
        11: "2 fields, where 3",
        12: "stands in line 3",
        13: "an empty field",
    }.items():
        assert words_ in reasons[line]
    clean, _ = read_hetionet(*hetionet(tmp_path, EDGES))
    np.testing.assert_array_equal(graph.triples, clean.triples)
    with pytest.raises(UserError, match=r"7 of 12 records are bad(.|\n)*line 7: duplicated edge"):
        read_hetionet(*hetionet(tmp_path, EDGES + bad_edges), vocabulary=words)


def test_damaged_files_are_refused(tmp_path):
    nodes, edges = hetionet(tmp_path, EDGES, [*NODES, NODES[0]])
    with pytest.raises(UserError, match="line 6: node Gene::2 is listed twice"):
        read_hetionet(nodes, edges)
    with pytest.raises(UserError, match="cannot be read"):
        read_triples(tmp_path / "absent.tsv")
    nodes, edges = hetionet(tmp_path, EDGES)
    edges.write_bytes(edges.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"edges\.sif\.gz cannot be read"):
        read_hetionet(nodes, edges)


def test_primekg_states_each_fact_twice(tmp_path):
    header = "relation,display_relation,x_index,x_id,x_type,x_name,x_source,"
    header += "y_index,y_id,y_type,y_name,y_source"
    drug, gene = "DB1,drug,Aspirin,DrugBank", '5742,gene/protein,"PTGS1, COX1",NCBI'
    other = "5743,gene/protein,PTGS2,NCBI"
    rows = [
        f"drug_protein,target,0,{drug},1,{gene}",
        f"drug_protein,target,1,{gene},0,{drug}",
        f"protein_protein,ppi,1,{gene},2,{other}",
        f"protein_protein,ppi,2,{other},1,{gene}",
    ]
    path = tmp_path / "kg.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    assert set(PRIMEKG) < set(header.split(","))
    graph, bad = read_primekg(path)
    assert not bad.records and "PTGS1, COX1" in graph.names
    assert facts(graph) == {
        ("drug::DrugBank:DB1", "drug_protein", "gene/protein::NCBI:5742"),
        ("gene/protein::NCBI:5742", "protein_protein", "gene/protein::NCBI:5743"),
    }
    path.write_text("\n".join([header, *rows, rows[0]]) + "\n")
    with pytest.raises(UserError, match="line 6: duplicated edge"):
        read_primekg(path)


def test_drkg(tmp_path):
    path = tmp_path / "drkg.tsv"
    path.write_text(
        "Gene::2157\tbioarx::HumGenHumGen:Gene:Gene\tGene::2157\n"
        "Gene::2157\tbioarx::HumGenHumGen:Gene:Gene\tGene::5264\n"
        "Gene::5264\tbioarx::HumGenHumGen:Gene:Gene\tGene::2157\n"
        "Compound::DB1\tDRUGBANK::treats::Compound:Disease\tDisease::MESH:D1\n"
        "aspirin\tDRUGBANK::treats::Compound:Disease\tDisease::MESH:D1\n"
    )
    graph, bad = read_drkg(path, tolerance=0.5)
    assert [(record.line, record.reason.split()[0]) for record in bad.records] == [
        (1, "self"),
        (5, "node"),
    ]
    assert len(graph.triples) == 3 and graph.types == ("Compound", "Disease", "Gene")


@pytest.mark.parametrize("name, mark", [("facts.csv", ","), ("facts.tsv", "\t")])
def test_triples(tmp_path, name, mark):
    path = tmp_path / name
    lines = ["relation,head,tail", "likes,anna,bert", "likes,bert,anna", "owns,anna,Cat::tom"]
    path.write_text("\n".join(lines).replace(",", mark) + "\n")
    graph, _ = read_triples(path)
    assert graph.types == ("Cat", "node") and len(graph.triples) == 3
    path.write_text(path.read_text().replace("tail", "object"))
    with pytest.raises(UserError, match="no column 'tail'"):
        read_triples(path)


def test_a_saved_graph_is_the_same(tmp_path):
    graph = toy_graph()
    graph.save(tmp_path / "g")
    again = load_graph(tmp_path / "g")
    for field in dataclasses.fields(graph):
        np.testing.assert_array_equal(getattr(graph, field.name), getattr(again, field.name))
    assert again.triples.dtype == again.node_type.dtype == np.int32
    with pytest.raises(UserError, match="exists"):
        graph.save(tmp_path / "g")
    record = tmp_path / "g" / "graph.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"facts": 1}))
    with pytest.raises(UserError, match="different graphs"):
        load_graph(tmp_path / "g")
    record.write_text("{")
    with pytest.raises(UserError, match="holds no knowledge graph"):
        load_graph(tmp_path / "g")


def test_nothing_between_the_types_of_an_answer_is_left():
    """Neither treatment nor palliation, nor either of them written backwards."""
    graph = toy_graph()
    back = Relation("is treated by", "Disease", "Compound")
    graph = dataclasses.replace(graph, relations=(*graph.relations, back))
    treats = graph.triples[graph.triples[:, 1] == graph.relation("CtD")]
    reverse = np.stack([treats[:, 2], np.full(len(treats), 5, np.int32), treats[:, 0]], axis=1)
    graph = graph.with_facts(reverse)
    rest = answers_removed(graph, "Compound", "Disease")
    left = rest.counts()
    gone = {name: count for name, count in graph.counts().items() if left[name] != count}
    assert {name.split(" (")[0] for name in gone} == {"CtD", "CpD", "is treated by"}
    assert not any(left[name] for name in gone) and rest.relations == graph.relations
    assert not rest.between("Disease", "Compound").any()


def test_added_facts_must_fit():
    graph = toy_graph()
    empty = answers_removed(graph, "Compound", "Disease")
    answers = graph.triples[graph.between("Compound", "Disease")]
    twice = np.concatenate([answers, answers[::-1]])
    np.testing.assert_array_equal(empty.with_facts(twice).triples, graph.triples)
    with pytest.raises(UserError, match="Gene::00 cannot be the tail of CtD"):
        graph.with_facts([[0, 2, 48]])
    with pytest.raises(UserError, match="does not have"):
        graph.with_facts([[0, 9, 48]])
    with pytest.raises(UserError, match="no relation 'CtX'; it has CbG"):
        graph.relation("CtX")


def test_the_real_cut_has_no_bad_line(biofm_data):
    folder = biofm_data / "drug" / "repurposing_hetionet"
    graph, bad = read_hetionet(folder / "nodes.tsv.gz", folder / "edges-5k.sif.gz")
    assert not bad.records
    assert (len(graph.ids), len(graph.triples), len(graph.relations)) == (47_031, 99_676, 24)
    counts = graph.counts()
    assert counts["CtD (Compound -> Disease)"] == 755
    assert counts["CpD (Compound -> Disease)"] == 390
    assert counts["GiG (Gene - Gene)"] == 5000
