import pytest
from pydantic import ValidationError

from csd_core.serving.http.asks import PIXEL, PutAsk


@pytest.mark.parametrize("label", [" ", "a ", " a", "two\nlines", "cafe\u0301", ""])
def test_an_item_is_of_a_class_that_a_task_could_have(label):
    with pytest.raises(ValidationError, match="label"):
        PutAsk(label=label, image=PIXEL)
    assert PutAsk(label="shoe:left \xe9", image=PIXEL).label == "shoe:left \xe9"
