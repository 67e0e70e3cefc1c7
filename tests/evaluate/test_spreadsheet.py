import zipfile

import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.spreadsheet import read_sheet

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
SHARED = f"<sst {MAIN}><si><t>name</t></si><si><r><t>p.</t></r><r><t>M1L</t></r></si></sst>"
SHEET = f"""<worksheet {MAIN}><sheetData>
<row r="1"><c r="A1" t="inlineStr"><is><t>a title</t></is></c></row>
<row r="3"><c r="A3" t="s"><v>0</v></c><c r="AB3" t="str"><v>score</v></c></row>
<row r="4"><c r="A4" t="s"><v>1</v></c><c r="B4"><v>9</v></c><c r="AB4"><v>-0.25</v></c></row>
<row r="5"/>
<row r="7"><c r="A7" t="inlineStr"><is><t>last</t></is></c><c r="AB7"/></row>
</sheetData></worksheet>"""


def workbook(path, sheet=SHEET, shared=SHARED):
    with zipfile.ZipFile(path, "w") as parts:
        parts.writestr("xl/worksheets/sheet1.xml", sheet)
        if shared:
            parts.writestr("xl/sharedStrings.xml", shared)
    return path


def test_columns_by_name_with_blanks_and_far_letters(tmp_path):
    path = workbook(tmp_path / "a.xlsx")
    assert read_sheet(path, 3, ("score", "name")) == [["-0.25", ""], ["p.M1L", "last"]]


def test_what_is_missing_or_broken_is_told(tmp_path):
    path = workbook(tmp_path / "a.xlsx")
    with pytest.raises(UserError, match="row 3: no column 'class' among name, score"):
        read_sheet(path, 3, ("name", "class"))
    with pytest.raises(UserError, match="row 2: no column 'name'"):
        read_sheet(path, 2, ("name",))
    with pytest.raises(UserError, match=r"no whole \.xlsx workbook"):
        read_sheet(workbook(tmp_path / "b.xlsx", shared=None), 3, ("name",))
    with pytest.raises(UserError, match=r"no whole \.xlsx workbook"):
        read_sheet(workbook(tmp_path / "c.xlsx", sheet=SHEET[:200]), 3, ("name",))
    (tmp_path / "d.xlsx").write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"no whole \.xlsx workbook"):
        read_sheet(tmp_path / "d.xlsx", 3, ("name",))
