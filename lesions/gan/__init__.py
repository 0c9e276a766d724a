"""Build study B's networks in Keras: the DCGAN and the base model."""
