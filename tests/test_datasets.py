"""The tables that travel with the package."""

import subprocess
import sys

import pytest

from csoftmax import datasets

pytest.importorskip("pandas")


def test_names_lists_the_tables_and_every_one_has_a_file():
    assert datasets.names() == ["anes96", "penguins"]
    for name in datasets.names():
        assert datasets.path(name).is_file()


def test_an_unknown_table_is_an_error_that_lists_the_tables():
    with pytest.raises(ValueError, match=r"name is 'pinguins'; the tables are 'anes96', 'penguins'"):
        datasets.path("pinguins")


def test_penguins_are_those_of_the_publication():
    penguins = datasets.load_penguins()
    assert penguins.shape == (344, 8)
    # counts of species and of missing values: Horst, Hill & Gorman (2020), the package's own description
    assert penguins["species"].value_counts().to_dict() == {"Adelie": 152, "Gentoo": 124, "Chinstrap": 68}
    measured = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    assert penguins[measured].isna().sum().tolist() == [2, 2, 2, 2]
    assert penguins["sex"].isna().sum() == 11
    assert penguins["bill_length_mm"].max() == 59.6  # millimetres, not centimetres
    assert sorted(penguins["year"].unique().tolist()) == [2007, 2008, 2009]


def test_anes96_is_complete_and_has_seven_parties():
    anes96 = datasets.load_anes96()
    assert anes96.shape == (944, 11)
    assert not anes96.isna().any(axis=None)
    # class counts as in statsmodels.datasets.anes96 0.15.0
    assert anes96["PID"].value_counts().sort_index().tolist() == [200, 180, 108, 37, 94, 150, 175]
    assert anes96["vote"].sum() == 393


@pytest.mark.parametrize("load", [datasets.load_penguins, datasets.load_anes96])
def test_docstrings_name_every_column_the_licence_and_the_source(load):
    text = load.__doc__
    for column in load().columns:
        assert column in text
    assert "Licence:" in text
    assert "References" in text


def test_each_call_gives_a_table_of_its_own():
    first = datasets.load_penguins()
    first.loc[:, "body_mass_g"] = 0.0
    assert datasets.load_penguins()["body_mass_g"].max() == 6300


def test_the_data_are_found_from_any_folder(tmp_path):
    code = "from csoftmax import datasets; print(datasets.path('penguins').is_file())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_without_pandas_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "csoftmax\[formula\]"'):
        datasets.load_penguins()
