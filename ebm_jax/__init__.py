"""Energy-based language models in JAX: pretraining (EBT), fine-tuning (EBFT) and decoding (EBD)."""

__version__ = "0.1.0"
