import io

import numpy as np
import pytest
from scipy.io import arff

from windvane.data.arff import parse_arff

WEATHER = """% a comment
@relation 'the weather'

@ATTRIBUTE outlook {sunny, 'quite overcast', rainy}
@attribute 'wind speed' REAL
@attribute "it's wet"{yes,no}
@attribute note string
@attribute day date "yyyy-MM-dd"
@data
sunny,1.5,yes,'a, b',2024-01-01
% another comment

'quite overcast' , ? , no , "say \\"no\\"" , ?
?,-3e2,?,O'Brien,'2024-01-03'
rainy,7,no,?,"2024-01-04"
"""


def test_dense():
    frame = parse_arff(WEATHER)
    assert list(frame.columns) == ["outlook", "wind speed", "it's wet", "note", "day"]
    assert frame["outlook"].tolist() == ["sunny", "quite overcast", np.nan, "rainy"]
    assert frame["outlook"].cat.categories.tolist() == ["sunny", "quite overcast", "rainy"]
    np.testing.assert_array_equal(frame["wind speed"], [1.5, np.nan, -300, 7])
    assert frame["it's wet"].tolist() == ["yes", "no", np.nan, "no"]
    assert frame["note"].tolist()[:3] == ["a, b", 'say "no"', "O'Brien"]
    assert frame["note"].isna().tolist() == [False, False, False, True]
    assert frame["day"].tolist()[2:] == ["2024-01-03", "2024-01-04"]


def test_sparse():
    header = (
        "@relation r\n@attribute a numeric\n@attribute b {x, 'y z'}\n@attribute c string\n@attribute d integer\n@data\n"
    )
    frame = parse_arff(header + "{0 2, 1 'y z'}\n{}\n{ 3 -1 , 2 \"a, b\" }\n{1 ?}\n")
    assert frame["a"].tolist() == [2, 0, 0, 0]
    assert frame["b"].tolist() == ["y z", "x", "x", np.nan]
    assert frame["c"].isna().tolist() == [True, True, False, True]
    assert frame["c"][2] == "a, b"
    assert frame["d"].tolist() == [0, 0, -1, 0]


def test_equals_scipy_on_what_scipy_reads():
    rng = np.random.default_rng(0)
    rows = "\n".join(f"{x:.6f},{y},{c}" for x, y, c in zip(rng.normal(size=50), range(50), "abcde" * 10, strict=True))
    text = "@relation r\n@attribute x real\n@attribute y integer\n@attribute c {e,d,c,b,a}\n@data\n" + rows
    expected, meta = arff.loadarff(io.StringIO(text))
    frame = parse_arff(text)
    assert list(frame.columns) == meta.names()
    np.testing.assert_array_equal(frame["x"], expected["x"])
    np.testing.assert_array_equal(frame["y"], expected["y"])
    assert frame["c"].tolist() == [value.decode() for value in expected["c"]]


HEADER = "@relation r\n@attribute a real\n@attribute b {x,y}\n@data\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "there are no @attribute lines followed by @data"),
        ("@data\n1,2\n", "there are no @attribute lines followed by @data"),
        ("@attribute a\n@data\n1\n", "line 1 is no attribute with a name and a type: '@attribute a'"),
        (HEADER + "1,x\n2\n", "line 6 has 1 values, but 2 attributes are declared"),
        (HEADER + "1,z\n", "attribute 'b' has the undeclared value 'z'"),
        (HEADER + "one,x\n", "attribute 'a' is real: Unable to parse string"),
        (HEADER + "1,'x\n", "attribute 'b' has the undeclared value \"'x\""),
        (HEADER + "{0 1, 2 x}\n", "line 5 gives attribute 2, but there are 0 to 1"),
        (HEADER + "{a 1}\n", "line 5 is malformed: 'a 1'"),
    ],
)
def test_errors(text, message):
    with pytest.raises(ValueError) as caught:
        parse_arff(text)
    assert message in str(caught.value)
