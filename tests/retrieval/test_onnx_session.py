import numpy as np

from csd_core.retrieval.embedder import Embedder
from csd_core.standalone.models import foreign

SPINNING = "session.intra_op.allow_spinning"


def test_threads_of_a_model_sleep_while_they_wait(linear_embedder, tmp_path):
    file = linear_embedder(tmp_path / "model.onnx", np.eye(4, dtype=np.float32))
    for session in (Embedder.load(file)._session, foreign.open_session(file)):
        assert session.get_session_options().get_session_config_entry(SPINNING) == "0"
