"""Labels of photographs: folders, files and predicted classes."""

import pytest
import toys

import featviz as fv
from featviz.apps.units.labels import find_labels, read_labels

NAMES = ["cats/a.png", "cats/b.png", "cats/old/c.png", "cats/old/d.png", "dogs/e.png", "dogs/a.png", "f.png"]


@pytest.fixture(scope="module")
def net():
    return toys.plain()


def photographs(labels, name):
    return [i for i, having in enumerate(labels.members[labels.names.index(name)].tolist()) if having]


def test_each_folder_above_a_photograph_is_a_label(net):
    found = find_labels(net, NAMES, [0] * 7, None)
    assert found.names == ("cats", "dogs", "old") and found.source == "folders"
    assert [photographs(found, name) for name in found.names] == [[0, 1, 2, 3], [4, 5], [2, 3]]


def test_labels_that_almost_all_or_none_have_are_left_out(net):
    names = [f"all/{i}.png" for i in range(4)] + ["one/4.png"]
    assert find_labels(net, names, [], None).names == ()


def test_predicted_classes_are_labels_where_there_are_no_others(net):
    found = find_labels(net, ["a.png", "b.png", "c.png", "d.png"], [0, 1, 0, 1], None)
    assert found.source == "predicted" and [photographs(found, name) for name in found.names] == [[0, 2], [1, 3]]
    assert find_labels(net, ["a.png", "b.png"], [], None).source == ""


def test_labels_of_a_file_join_those_of_folders(net, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(
        "\ufefffile,label,more\n./cats/b.png, young ,\nb.png,striped\n\nf.png,young,striped\nno.png,young\n"
    )
    given = read_labels(file, NAMES)
    assert given == {"cats/b.png": ["young", "striped"], "f.png": ["young", "striped"]}
    found = find_labels(net, NAMES, [], given)
    assert found.source == "folders and file" and photographs(found, "young") == [1, 6] == photographs(found, "striped")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"f.png\n", "each line of FILE must be a photograph and its labels, separated by commas; line 1 has no label"),
        (b"x.png,a\n", "FILE must name photographs of the folder, as 'cats/a.png'; the first line names 'x.png'"),
        (b"a.png,a\n", "FILE must name photographs of the folder, as 'cats/a.png'; the first line names 'a.png'"),
        (b"", "FILE must name photographs of the folder, as 'cats/a.png', and is empty"),
        (b"f.png,\xff\n", "cannot read the labels in FILE; it must be a .csv file in UTF-8: 'utf-8' codec can't"),
        (None, "cannot read the labels in FILE: No such file or directory"),
    ],
)
def test_files_that_hold_no_labels(tmp_path, content, message):
    file = tmp_path / "labels.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(fv.SettingError) as error:
        read_labels(file, NAMES)
    assert str(error.value).startswith(message.replace("FILE", str(file)))
