from sdpo_jax.train import *
