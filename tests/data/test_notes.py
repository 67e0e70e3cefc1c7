import gzip
import json

import pytest
from published_files import BERT_SPECIALS, prose, write

from biofm_jax.data.inspection import inspect, prepare
from biofm_jax.data.notes import ByteTokenizer, NotesData
from biofm_jax.errors import UserError


def test_bytes_keep_any_text():
    tokenizer = ByteTokenizer()
    texts = prose(300)
    flat, offsets = tokenizer.encode_many(texts)
    for text, begin, end in zip(texts, offsets, offsets[1:]):
        assert tokenizer.decode(flat[begin:end]) == text
        assert end - begin == len(text.encode()) + 2
    assert tokenizer.vocabulary.size == 261
    assert tokenizer.encode("A").tolist() == [0, 5 + 65, 2]


NOTES = ["Denies chest pain.", "Résumé: BP 120/80, “stable”.", "third, with comma"]


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.csv", "x.jsonl.gz"])
def test_every_format_gives_the_same_notes(tmp_path, name):
    if ".txt" in name:
        content = "\n\n".join(NOTES)
    elif ".jsonl" in name:
        content = "\n".join(json.dumps({"ID": i, "Text": note}) for i, note in enumerate(NOTES))
    else:
        content = "id,text\n" + "\n".join(f'{i},"{note}"' for i, note in enumerate(NOTES))
    raw = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    data = NotesData(path=str(tmp_path / name))
    assert next(data.prepared().texts()) == NOTES
    store = data.open()
    assert data.tokenizer().decode(store.ids[: store.offsets[1]]) == NOTES[0]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("x.jsonl", '{"text": "a"}\n{"body": "b"}', "line 2: no text in a field 'text' or"),
        ("x.jsonl", '{"text": "a"}\n{"text": 3}\n', "line 2: no text in a field"),
        ("x.jsonl", '[1]\n{"text": "a"}', "line 1: no text in a field"),
        ("x.jsonl", '{"text"\n{"text": "a"}', "line 1: no JSON"),
        ("x.fasta", ">a\nACGT\n", "unknown ending '.fasta' for notes; rename to .txt, .jsonl"),
        ("x.csv", "a,b\n1,2\n", "no column 'text' or 'note'"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        NotesData(path=str(tmp_path / name)).prepared()


def test_prepare_and_inspect(tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(NOTES * 1))
    made = prepare("notes", str(tmp_path / "x.txt"), tmp_path / "out")
    assert made.count == 3
    seen = inspect(tmp_path / "out")
    assert seen.shortest == len(NOTES[2]) + 2


def test_a_published_vocabulary(tmp_path):
    words = ["denies", "chest", "pain", ".", "##s"]
    folder = write(tmp_path / "m", vocab__txt="\n".join(BERT_SPECIALS + words))
    tokenizer = NotesData(tokenizer_path=str(folder)).tokenizer()
    assert tokenizer.encode("Denies chest pains.").tolist() == [2, 5, 6, 7, 9, 8, 3]
    assert tokenizer.decode([2, 5, 6, 7, 9, 8, 3]) == "denies chest pains."
