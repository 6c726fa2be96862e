"""config.yaml: the models, and the loader that refuses it whole."""
