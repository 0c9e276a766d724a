"""One thin script per stage. Under DVC it ends with DVC, from its first moment: importing torch takes seconds."""

import os

from lesions.core.process import end_with_dvc

if "DVC_STAGE" in os.environ:
    end_with_dvc()
