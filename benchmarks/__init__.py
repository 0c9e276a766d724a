import os

os.environ.setdefault("TQDM_DISABLE", "1")  # no bars of the stages' loops; read where tqdm is imported first
