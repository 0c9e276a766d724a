"""Hold a script a stage. Under DVC a stage ends when DVC does, even in the seconds in which it imports torch."""

import os

from lesions.core.process import end_with_dvc

if "DVC_STAGE" in os.environ:
    end_with_dvc()
