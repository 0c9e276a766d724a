"""Study B, in Keras: the DCGAN and the base model."""
